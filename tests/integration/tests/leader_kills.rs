//! How long a cluster is without a leader when the leader's daemon is killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use coracle_integration::api::Api;
use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::Name;
use coracle_proto::v1;
use coracle_proto::v1::local_node_client::LocalNodeClient;

/// Kills where nobody asks for more with `CORACLE_LEADER_KILLS`.
const FEW: usize = 5;
/// Longest time-out of an election and the lease of the leader, which a follower waits for before it stands.
const TIMEOUT: Duration = Duration::from_millis(400);
/// What no election may take: three rounds of the longest time-out after the lease has ended.
const STRICT: Duration = TIMEOUT.saturating_mul(4);
/// The same where other things may run on the machine, as in continuous integration.
const GENEROUS: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long one look or one try of a write may take.
const TRY: Duration = Duration::from_millis(200);

/// What one kill cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Until another manager knew a new leader.
    leader: Duration,
    /// Until a write was acknowledged.
    write: Duration,
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures")]
fn a_new_leader_is_elected_in_time() {
    let asked = std::env::var("CORACLE_LEADER_KILLS").ok();
    let kills =
        asked.as_ref().map_or(Ok(FEW), |text| text.parse()).expect("CORACLE_LEADER_KILLS is a number");
    let bound = if asked.is_some() { STRICT } else { GENEROUS };
    harness::test("leader_kills", 3, 0, |lab| {
        let costs = (0..kills).map(|_| kill(lab)).collect::<Result<Vec<Cost>>>()?;
        println!("new leader known: {}", distribution(costs.iter().map(|cost| cost.leader)));
        println!("next write acknowledged: {}", distribution(costs.iter().map(|cost| cost.write)));
        let worst = costs.iter().map(|cost| cost.leader).max().unwrap_or_default();
        ensure!(worst <= bound, "an election took {worst:.0?}, more than {bound:?}");
        Ok(())
    });
}

/// Kills the leader, waits for the next one and for a write, and makes the cluster whole again.
fn kill(lab: &mut Lab) -> Result<Cost> {
    let leader = lab.leader()?;
    let lost = raft(lab.api(leader)?)?.raft_id;
    let others: Vec<Name> = lab.names().into_iter().filter(|name| *name != leader).collect();
    let apis = others.iter().map(|name| Ok(lab.api(*name)?.holding())).collect::<Result<Vec<Api>>>()?;
    // Connected before it counts.
    apis.iter().try_for_each(|api| raft(api).map(drop))?;
    let start = Instant::now();
    lab.node(leader).kill_daemon()?;
    let cost = std::thread::scope(|scope| {
        let write = scope.spawn(|| first_write(&apis, start));
        let leader = first_leader(&apis, lost, start);
        let write = write.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok::<_, anyhow::Error>(Cost { leader: leader?, write: write? })
    })?;
    lab.start_daemon(leader)?;
    lab.eventually_within("whole again", FORM_DEADLINE, |view| view.ready() == 3 && view.voters() == 3)?;
    Ok(cost)
}

fn raft(api: &Api) -> Result<v1::RaftInfo> {
    let mut client = LocalNodeClient::new(api.channel());
    api.call(TRY, client.info(v1::InfoRequest {}))?.raft.context("the node is no manager")
}

/// Time since `start` when one of these knows a leader that is not the lost one.
fn first_leader(apis: &[Api], lost: u64, start: Instant) -> Result<Duration> {
    let knows =
        |api: &Api| raft(api).is_ok_and(|raft| raft.leader_raft_id != 0 && raft.leader_raft_id != lost);
    wait(start, "no new leader", || apis.iter().any(knows))
}

/// Time since `start` when a write was acknowledged.
fn first_write(apis: &[Api], start: Instant) -> Result<Duration> {
    let mut tries = apis.iter().cycle();
    let mut write = || tries.next().is_some_and(|api| api.set_label("m1", "kill", "1", TRY).is_ok());
    wait(start, "no acknowledged write", &mut write)
}

fn wait(start: Instant, what: &str, mut ask: impl FnMut() -> bool) -> Result<Duration> {
    while start.elapsed() < FORM_DEADLINE {
        if ask() {
            return Ok(start.elapsed());
        }
        std::thread::sleep(LOOK);
    }
    anyhow::bail!("{what} within {FORM_DEADLINE:?}")
}

/// Median, the ninth of ten, and the worst.
fn distribution(durations: impl Iterator<Item = Duration>) -> String {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort_unstable();
    let at = |tenths: usize| sorted.get((sorted.len() * tenths / 10).min(sorted.len().saturating_sub(1)));
    let ms = |duration: Option<&Duration>| duration.map_or(0, Duration::as_millis);
    let (least, median, ninth, worst) = (ms(sorted.first()), ms(at(5)), ms(at(9)), ms(sorted.last()));
    format!(
        "of {} kills: least {least} ms, median {median} ms, p90 {ninth} ms, worst {worst} ms",
        sorted.len()
    )
}
