//! A machine without a certificate, on the same network, does its worst to every node for a while: no node goes down, nobody else
//! leads, memory stays bounded, and others join meanwhile.
//!
//! The attacker's code is its own, down to the frames, so that it can do what a library would refuse.

#[path = "hostile_clients/attack.rs"]
mod attack;
#[path = "hostile_clients/frames.rs"]
mod frames;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1, W2};
use coracle_integration::view::View;

/// How long the attack lasts; `CORACLE_ATTACK_SECONDS` asks for more.
const LENGTH: Duration = Duration::from_secs(10);
/// What a daemon's memory may grow by meanwhile.
const GROWTH: u64 = 96 << 20;
/// Files that a daemon may have open meanwhile: its own, and the few connections that it grants to one address.
const OPEN_FILES: usize = 250;
/// The attacker's place in the segment.
const ATTACKER: Name = Name::Worker(66);

#[test]
fn nobody_is_disturbed() {
    harness::test("hostile_clients", 3, 1, |lab| {
        lab.add_host(ATTACKER)?;
        lab.add(W2)?;
        let token = lab.cli(M1, "swarm join-token -q worker").ok()?;
        let leader = lab.leader()?;
        let before = lab.view()?;
        let memory = memory(lab)?;
        let (stop, done) = (AtomicBool::new(false), attack::Done::default());
        let attacker = lab.get(ATTACKER)?.host()?;
        let targets = [M1, M2, M3, W1].map(|name| format!("{}:2377", name.address()));
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| attacker.in_network(|| attack::run(&targets, &stop, &done)));
            let watched = watch(lab, leader, &before, &token);
            stop.store(true, Ordering::SeqCst);
            let attacked = attack.join().map_err(|_| anyhow::anyhow!("the attacker panicked"))?;
            watched.and(attacked)
        })?;
        attack::every_kind_was_tried(&done)?;
        for (name, peak) in self::memory(lab)? {
            let growth = peak.saturating_sub(memory[&name]);
            anyhow::ensure!(growth < GROWTH, "the daemon of {name} grew by {} MiB", growth >> 20);
        }
        Ok(())
    });
}

/// Looks at the cluster while the attack goes on; another machine joins through the worst of it.
fn watch(lab: &Lab, leader: Name, before: &View, token: &str) -> anyhow::Result<()> {
    let seconds = std::env::var("CORACLE_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = seconds.map_or(LENGTH, Duration::from_secs);
    let undisturbed = |view: &View| {
        // What was refused is closed: the attacker cannot pile up connections.
        let few = files(lab).is_ok_and(|files| files.values().all(|open| *open < OPEN_FILES));
        let still = view.leader() == Some(leader.to_string().as_str());
        few && still && since(before).iter().all(|(id, since)| self::since(view).get(id) == Some(since))
    };
    lab.stays("all nodes are ready, the same one leads, few files are open", length / 2, undisturbed)?;
    lab.cli(W2, &format!("swarm join --token {token} {}:2377", M2.address())).ok()?;
    lab.eventually_within("another machine is a node", FORM_DEADLINE, |view| view.is_ready("w2"))?;
    lab.stays("all nodes are ready, the same one leads, few files are open", length / 2, undisturbed)
}

/// Since when each node is in the state that it is in.
fn since(view: &View) -> BTreeMap<String, u64> {
    let status = |item: &coracle_proto::v1::NodeListItem| {
        let node = item.node.clone().unwrap_or_default();
        (node.id, node.status.unwrap_or_default().since)
    };
    view.nodes.iter().map(status).collect()
}

/// How many files each daemon has open.
fn files(lab: &Lab) -> anyhow::Result<BTreeMap<Name, usize>> {
    let open = |name: Name| {
        let daemon =
            lab.get(name)?.daemon().ok_or_else(|| anyhow::anyhow!("the daemon of {name} has ended"))?;
        Ok((name, std::fs::read_dir(format!("/proc/{}/fd", daemon.pid))?.count()))
    };
    [M1, M2, M3, W1].into_iter().map(open).collect()
}

/// The most memory that each daemon has had (`VmHWM`, proc_pid_status(5)), in bytes.
fn memory(lab: &Lab) -> anyhow::Result<BTreeMap<Name, u64>> {
    let peak = |name: Name| {
        let daemon =
            lab.get(name)?.daemon().ok_or_else(|| anyhow::anyhow!("the daemon of {name} has ended"))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok((name, kibibytes.ok_or_else(|| anyhow::anyhow!("no VmHWM"))? * 1024))
    };
    [M1, M2, M3, W1].into_iter().map(peak).collect()
}
