//! Making a cluster, and what must become of one when all harm is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use coracle_wal::Options;
use openraft::AsyncRuntime as _;

use super::client;
use super::host::Setup;
use super::life::lock;
use super::runtime::{Clockwork, now};
use super::state::Put;
use super::world::{PATIENCE, Watch, World};
use crate::raft::settings;
use crate::raft::{Limits, RaftError, Timing};

/// Within this time after all harm is over, a cluster decides again.
const RECOVERY: Duration = Duration::from_secs(15);

/// Within this time after that, all managers have everything.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Where a simulated manager is said to listen.
pub(super) fn address(raft_id: u64) -> String {
    format!("manager-{raft_id}:1")
}

/// What production has.
pub(super) fn roomy() -> Setup {
    with(Limits::default(), Options::default())
}

fn with(limits: Limits, log: Options) -> Setup {
    let settings = settings::config("simulated", &Timing::default(), &limits).unwrap();
    Setup { limits, settings, log }
}

/// Limits so small that snapshots and purges happen all the time.
pub(super) fn small() -> Setup {
    let limits =
        Limits { snapshot_bytes: 12_000, snapshot_entries: 60, keep_entries: 20, keep_bytes: 40_000 };
    with(limits, Options { segment_bytes: 6_000, cache_bytes: 20_000, batch_bytes: 4_000 })
}

impl World {
    /// A cluster of `size` voters, led by 1.
    pub(super) async fn form(self: &Arc<Self>, size: u64) -> Result<(), RaftError> {
        self.start(1).await;
        let Some(first) = self.running(1) else { return Ok(()) };
        first.node.initialize(&address(1)).await?;
        while self.leader().is_none() {
            super::runtime::sleep(Duration::from_millis(1)).await;
        }
        for raft_id in 2..=size {
            self.start(raft_id).await;
            first.node.add_learner(raft_id, &address(raft_id), PATIENCE).await?;
        }
        first.node.change_voters((1..=size).collect(), PATIENCE).await
    }

    /// Starts clients.
    pub(super) fn serve(self: &Arc<Self>, clients: u32) {
        for id in 0..clients {
            drop(Clockwork::spawn(client::run(self.clone(), id)));
        }
    }

    /// Writes something through whoever leads; returns the index.
    pub(super) async fn write(self: &Arc<Self>) -> Result<u64, RaftError> {
        self.write_padded(0).await
    }

    /// The same, with a command of this many bytes more.
    pub(super) async fn write_padded(self: &Arc<Self>, padding: usize) -> Result<u64, RaftError> {
        let command: Bytes = Put { key: 1000, value: self.fresh_value(), padding }.encode();
        let until = now() + RECOVERY;
        let mut last = RaftError::NotLeader { leader: None };
        while now() < until {
            if let Some(running) = self.leader().and_then(|leader| self.running(leader)) {
                let command = command.clone();
                let written = running
                    .ask(|process| async move { process.node.propose(command, Duration::from_secs(2)).await })
                    .await;
                match written {
                    Some(Ok(committed)) => return Ok(committed.index),
                    Some(Err(error)) => last = error,
                    None => {}
                }
            }
            super::runtime::sleep(Duration::from_millis(10)).await;
        }
        Err(last)
    }
}

impl Watch {
    /// A cluster of `size` voters, led by 1, with its watch.
    pub(super) async fn over(seed: u64, setup: Setup, size: u64) -> Result<Self, String> {
        let mut watch = Self::new(World::new(seed, setup));
        let world = watch.world.clone();
        watch.during(async move { world.form(size).await }).await?.map_err(|error| error.to_string())?;
        Ok(watch)
    }

    /// Writes something; returns the index.
    pub(super) async fn write(&mut self) -> Result<u64, String> {
        let world = self.world.clone();
        self.during(async move { world.write().await })
            .await?
            .map_err(|error| format!("no write is served: {error}"))
    }

    /// With no more harm done: a fresh write is served, all members agree on who they are, and have the same state.
    pub(super) async fn recover(&mut self) -> Result<(), String> {
        let begun = now();
        self.write().await?;
        if now() - begun > RECOVERY {
            return Err(format!("the first write took {:?}", now() - begun));
        }
        self.world.clients_stop.store(true, Ordering::Relaxed);
        self.until("clients end", CATCH_UP, |world| world.clients.load(Ordering::Relaxed) == 0).await?;
        // Changes of membership that were under way are completed by whoever leads.
        self.until("one leader, one membership", CATCH_UP, |world| world.members().is_ok()).await?;
        let index = self.write().await?;
        self.until("all have the same state", CATCH_UP, |world| {
            let Ok(members) = world.members() else { return false };
            let registers = members
                .iter()
                .filter_map(|raft_id| world.running(*raft_id))
                .map(|running| running.state.registers());
            let all: Vec<_> = registers.collect();
            all.len() == members.len()
                && all
                    .iter()
                    .all(|one| one.index >= index && (one.hash, &one.values) == (all[0].hash, &all[0].values))
        })
        .await?;
        self.check_history()
    }

    /// Compares what clients were told with what came of it.
    fn check_history(&self) -> Result<(), String> {
        let world = &self.world;
        let leader = world.leader().and_then(|leader| world.running(leader)).ok_or("nobody leads")?;
        let mut registers = leader.state.registers();
        // What the watch itself wrote is no client's.
        registers.values.remove(&1000);
        let mut history = lock(&world.history).clone();
        history.finish(registers.index, &registers.values);
        match history.check().first() {
            Some(violation) => Err(violation.to_string()),
            None => Ok(()),
        }
    }
}

impl World {
    /// The members, if all that run agree: one leader, no change in progress.
    pub(super) fn members(&self) -> Result<BTreeSet<u64>, String> {
        let leader = self.leader().ok_or("nobody leads")?;
        let wanted = self.running(leader).ok_or("the leader is gone")?.status();
        if wanted.members.changing_to.is_some() {
            return Err("a change is in progress".to_owned());
        }
        let ids: BTreeSet<u64> =
            wanted.members.voters.keys().chain(wanted.members.learners.keys()).copied().collect();
        for raft_id in &ids {
            let status = self.running(*raft_id).ok_or(format!("{raft_id} does not run"))?.status();
            let follows = status.leader.as_ref().map(|leader| leader.raft_id) == Some(leader);
            if status.members != wanted.members || status.term != wanted.term || !follows {
                return Err(format!("{raft_id} does not agree"));
            }
        }
        Ok(ids)
    }
}
