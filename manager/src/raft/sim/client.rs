//! Clients that write and read registers, and remember what they were told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coracle_history::{Answer, Kind};

use super::host::Running;
use super::life::lock;
use super::runtime::{now, sleep};
use super::state::Put;
use super::world::World;
use crate::raft::RaftError;

/// How long a client waits for an answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Registers that clients write.
pub(super) const KEYS: u64 = 5;

/// Bytes that some commands take beside.
const PADDING: u64 = 400;

/// Writes and reads until all clients are to stop.
pub(super) async fn run(world: Arc<World>, id: u32) {
    world.clients.fetch_add(1, Ordering::Relaxed);
    let mut target = None;
    while !world.clients_stop.load(Ordering::Relaxed) {
        let running: Vec<u64> = world.all_running().into_iter().map(|(raft_id, _)| raft_id).collect();
        let raft_id =
            target.take().filter(|raft_id| running.contains(raft_id)).or_else(|| world.choose(&running));
        if let Some((raft_id, running)) = raft_id.and_then(|raft_id| Some((raft_id, world.running(raft_id)?)))
        {
            target = match one_operation(&world, id, raft_id, &running).await {
                Ok(()) => Some(raft_id),
                Err(RaftError::NotLeader { leader }) => leader.map(|leader| leader.raft_id),
                Err(_) => None,
            };
        }
        let pause = if target.is_some() { 80 } else { 200 };
        sleep(Duration::from_millis(1 + world.below(pause))).await;
    }
    world.clients.fetch_sub(1, Ordering::Relaxed);
}

async fn one_operation(world: &World, id: u32, raft_id: u64, running: &Running) -> Result<(), RaftError> {
    let (key, begun) = (world.below(KEYS), now());
    let (kind, result) = if world.below(3) == 0 {
        (Kind::Read, read(world, raft_id, running, key).await)
    } else {
        let put = Put { key, value: world.fresh_value(), padding: world.below(PADDING) as usize };
        let written = running
            .ask(|process| async move { process.node.propose(put.encode(), DEADLINE).await })
            .await
            .unwrap_or(Err(RaftError::OutcomeUnknown { reason: "the process ended".to_owned() }));
        (Kind::Write(Some(put.value)), written.map(|committed| Answer::written(committed.index)))
    };
    let (answer, result) = match result {
        Ok(answer) => (answer, Ok(())),
        Err(error @ RaftError::OutcomeUnknown { .. }) => (Answer::Unknown, Err(error)),
        Err(error) => (Answer::Refused, Err(error)),
    };
    world.note(format!("client {id} at {raft_id}: {key} {kind:?} -> {answer:?}"));
    let (begun, ended) = (begun.as_nanos() as u64, now().as_nanos() as u64);
    lock(&world.history).record(id, key, kind, begun, ended, answer);
    result
}

async fn read(world: &World, raft_id: u64, running: &Running, key: u64) -> Result<Answer<u64>, RaftError> {
    let seen = running
        .ask(|process| async move {
            let index = process.node.read_barrier(DEADLINE).await?;
            Ok((index, process.state.registers()))
        })
        .await;
    let (index, registers) =
        seen.unwrap_or(Err(RaftError::Unavailable { reason: "the process ended".to_owned() }))?;
    if registers.index < index {
        world
            .ledger
            .complain(format!("manager {raft_id} promised a read at {index} and is at {}", registers.index));
    }
    Ok(Answer::read(registers.index, registers.values.get(&key).copied()))
}
