//! Bad luck, by seed: crashes, power losses, cuts, slowness, and administrators at the wrong moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cluster::address;
use super::runtime::{now, sleep};
use super::world::{Watch, World};

/// How long an administrator waits for one request.
const REQUEST: Duration = Duration::from_secs(4);

/// The highest id that a new manager gets.
const MOST_IDS: u64 = 8;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Kill,
    PowerLoss,
    PowerLossWhileWriting,
    AllLosePower,
    Halves,
    OneWay,
    IsolateLeader,
    Swizzle,
    SlowWays,
    LossyWays,
    SlowDisk,
    Snapshot,
    Transfer,
    Join,
    Leave,
    LeaderLeaves,
    Heal,
}

const MISHAPS: [Mishap; 17] = [
    Mishap::Kill,
    Mishap::PowerLoss,
    Mishap::PowerLossWhileWriting,
    Mishap::AllLosePower,
    Mishap::Halves,
    Mishap::OneWay,
    Mishap::IsolateLeader,
    Mishap::Swizzle,
    Mishap::SlowWays,
    Mishap::LossyWays,
    Mishap::SlowDisk,
    Mishap::Snapshot,
    Mishap::Transfer,
    Mishap::Join,
    Mishap::Leave,
    Mishap::LeaderLeaves,
    Mishap::Heal,
];

/// Does harm.
pub(super) struct Nemesis {
    world: Arc<World>,
    restarts: BTreeMap<u64, Duration>,
    /// How often each mishap happened.
    pub(super) counts: BTreeMap<String, u64>,
}

impl Nemesis {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world, restarts: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// Does harm for a while; then mends everything that it broke.
    pub(super) async fn run(&mut self, watch: &mut Watch, duration: Duration) -> Result<(), String> {
        let until = now() + duration;
        while now() < until {
            self.mishap(watch).await?;
            let pause = 20 + self.world.below(500);
            self.pause(watch, Duration::from_millis(pause)).await?;
        }
        self.mend(watch).await
    }

    async fn pause(&mut self, watch: &mut Watch, duration: Duration) -> Result<(), String> {
        let until = now() + duration;
        while now() < until {
            watch.wait(Duration::from_millis(10)).await?;
            self.restart_some(now()).await;
        }
        Ok(())
    }

    async fn restart_some(&mut self, until: Duration) {
        for raft_id in self.world.hosts() {
            if self.world.running(raft_id).is_none() {
                // Also after a power loss in the middle of a write, which nobody announced.
                let pause = Duration::from_millis(self.world.below(1500));
                self.restarts.entry(raft_id).or_insert(now() + pause);
            }
        }
        let due: Vec<u64> =
            self.restarts.iter().filter(|(_, at)| **at <= until).map(|(raft_id, _)| *raft_id).collect();
        for raft_id in due {
            self.restarts.remove(&raft_id);
            self.world.start(raft_id).await;
        }
    }

    /// Undoes all harm.
    async fn mend(&mut self, watch: &mut Watch) -> Result<(), String> {
        let world = self.world.clone();
        world.note("everything is mended".to_owned());
        world.network.heal();
        for raft_id in world.hosts() {
            world.host(raft_id, |host| {
                host.speed.slow_down(Duration::ZERO);
                host.clear_trap();
            });
        }
        watch.look()?;
        self.restart_some(Duration::MAX).await;
        Ok(())
    }

    async fn mishap(&mut self, watch: &mut Watch) -> Result<(), String> {
        let world = self.world.clone();
        let Some(mishap) = world.choose(&MISHAPS) else { return Ok(()) };
        *self.counts.entry(format!("{mishap:?}")).or_default() += 1;
        world.note(format!("nemesis: {mishap:?}"));
        let ids = world.hosts();
        let running: Vec<u64> = world.all_running().into_iter().map(|(raft_id, _)| raft_id).collect();
        let some: BTreeSet<u64> = ids.iter().copied().filter(|_| world.below(2) == 0).collect();
        match mishap {
            Mishap::Kill | Mishap::PowerLoss => {
                if let Some(raft_id) = self.victim(&running) {
                    world.crash(raft_id, mishap == Mishap::PowerLoss);
                }
            }
            Mishap::PowerLossWhileWriting => {
                if let Some(raft_id) = self.victim(&running) {
                    let changes = world.below(25);
                    world.host(raft_id, |host| host.set_trap(changes));
                }
            }
            // Rarely: it stops everything.
            Mishap::AllLosePower if world.below(3) == 0 => {
                running.iter().for_each(|raft_id| world.crash(*raft_id, true));
            }
            Mishap::AllLosePower => {}
            Mishap::Halves => {
                world.network.change(
                    &ids,
                    |from, to| some.contains(&from) != some.contains(&to),
                    |way| way.cut = true,
                );
            }
            Mishap::OneWay => {
                let (Some(one), Some(other)) = (world.choose(&ids), world.choose(&ids)) else {
                    return Ok(());
                };
                world.network.change(&ids, |from, to| (from, to) == (one, other), |way| way.cut = true);
            }
            Mishap::IsolateLeader => {
                let leader = world.leader();
                world.network.change(
                    &ids,
                    |from, to| [from, to].map(Some).contains(&leader),
                    |way| way.cut = true,
                );
            }
            Mishap::Swizzle => return self.swizzle(watch, &ids, &some).await,
            Mishap::SlowWays => {
                let slow = world.below(120_000);
                world.network.change(
                    &ids,
                    |from, to| some.contains(&from) || some.contains(&to),
                    |way| way.slow = slow,
                );
            }
            Mishap::LossyWays => {
                let (loss, twice) = (world.below(200), world.below(500));
                world.network.change(
                    &ids,
                    |from, _| some.contains(&from),
                    |way| {
                        way.loss = loss;
                        way.twice = twice;
                    },
                );
            }
            Mishap::SlowDisk => {
                let by = Duration::from_millis(world.below(150));
                if let Some(raft_id) = world.choose(&ids) {
                    world.host(raft_id, |host| host.speed.slow_down(by));
                }
            }
            Mishap::Heal => {
                world.network.heal();
                ids.iter()
                    .for_each(|raft_id| world.host(*raft_id, |host| host.speed.slow_down(Duration::ZERO)));
            }
            Mishap::Snapshot | Mishap::Transfer | Mishap::Join | Mishap::Leave | Mishap::LeaderLeaves => {
                self.administer(mishap, &running).await;
            }
        }
        Ok(())
    }

    /// Anybody, but more often the leader.
    fn victim(&self, running: &[u64]) -> Option<u64> {
        self.world.leader().filter(|_| self.world.below(2) == 0).or_else(|| self.world.choose(running))
    }

    /// Cuts some off one after the other, and lets them back in another order.
    async fn swizzle(&mut self, watch: &mut Watch, ids: &[u64], some: &BTreeSet<u64>) -> Result<(), String> {
        let world = self.world.clone();
        for (cut, order) in [(true, 0), (false, world.below(u64::MAX))] {
            let mut order: Vec<_> =
                some.iter().map(|raft_id| (raft_id.rotate_right(3) ^ order, *raft_id)).collect();
            order.sort_unstable();
            for (_, raft_id) in order {
                world.note(format!("swizzle: {raft_id} {}", if cut { "cut" } else { "back" }));
                world.network.change(ids, |from, to| from == raft_id || to == raft_id, |way| way.cut = cut);
                let pause = Duration::from_millis(world.below(400));
                self.pause(watch, pause).await?;
            }
        }
        Ok(())
    }

    /// Asks something of the leader, without waiting for the answer.
    async fn administer(&mut self, mishap: Mishap, running: &[u64]) {
        let world = self.world.clone();
        let asked = if mishap == Mishap::Snapshot { world.choose(running) } else { world.leader() };
        let Some(running) = asked.and_then(|raft_id| world.running(raft_id)) else { return };
        let status = running.status();
        let voters: Vec<u64> = status.members.voters.keys().copied().collect();
        match mishap {
            Mishap::Snapshot => drop(running.life.clone().spawn(async move {
                let _ = running.node.trigger_snapshot().await;
            })),
            Mishap::Transfer => drop(running.life.clone().spawn(async move {
                let _ = running.node.transfer_leader(REQUEST).await;
            })),
            Mishap::Join => {
                let learners: Vec<u64> = status.members.learners.keys().copied().collect();
                let next = world.hosts().last().map_or(1, |last| last + 1);
                let new = world.choose(&learners).filter(|_| world.below(2) == 0);
                let Some(raft_id) = new.or((next <= MOST_IDS && voters.len() < 5).then_some(next)) else {
                    return;
                };
                if new.is_none() {
                    world.start(raft_id).await;
                }
                drop(running.life.clone().spawn(async move {
                    let added = running.node.add_learner(raft_id, &address(raft_id), REQUEST).await;
                    world.note(format!("join of {raft_id}: {added:?}"));
                    if added.is_ok() {
                        sleep(Duration::from_millis(world.below(200))).await;
                        let promoted = running.node.promote(raft_id, REQUEST).await;
                        world.note(format!("promotion of {raft_id}: {promoted:?}"));
                    }
                }));
            }
            _ => {
                let leaver = if mishap == Mishap::LeaderLeaves { asked } else { world.choose(&voters) };
                let Some(raft_id) = leaver.filter(|_| voters.len() > 2) else { return };
                drop(running.life.clone().spawn(async move {
                    let removed = running.node.remove(raft_id, REQUEST).await;
                    world.note(format!("removal of {raft_id}: {removed:?}"));
                }));
            }
        }
    }
}
