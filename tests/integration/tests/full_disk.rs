//! Disks of managers fill up: operators are refused in time, containers never notice, nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use coracle_integration::disk;
use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1};
use coracle_integration::process::{self, Process};
use coracle_integration::view::View;
use coracle_integration::writer::Writer;

/// The image store keeps a quarter of a gibibyte for itself.
const DISK: u64 = 512 << 20;
const RESERVE: u64 = 16 << 20;
/// Less than the reserve, and far more than the log grows in a test.
const LOW: u64 = 8 << 20;
/// How long a daemon may take to end by itself.
const END: Duration = Duration::from_secs(30);

#[test]
fn full_disks_of_managers_stop_no_container_and_lose_no_write() {
    harness::bare("full_disk", 3, 1, |lab| {
        lab.allow_error("the log failed and takes no more writes");
        lab.allow_error("No space left on device");
        lab.allow_error("failed to receive from RaftCore");
        for name in [M1, M2, M3] {
            lab.node(name).set_environment(&[("CORACLE_DISK_RESERVE", &RESERVE.to_string())]);
            disk::limit(lab, name, DISK)?;
        }
        lab.form()?;
        lab.load_responder(M1)?;
        for (service, replicas) in [("app", 3), ("victim", 1), ("spare", 1)] {
            let options = "--constraint node.role==worker --restart-delay 50ms responder:1 sleep";
            lab.cli(M1, &format!("service create --name {service} --replicas {replicas} {options}")).ok()?;
        }
        let view = lab.eventually("all run", |view| {
            view.settled("app", 3) && view.settled("victim", 1) && view.settled("spare", 1)
        })?;
        let before = processes(lab, &view)?;
        let writer = lab.start_writer(W1)?;
        low_follower(lab)?;
        full_follower(lab, &writer)?;
        low_leader(lab)?;
        full_leader(lab)?;
        lab.eventually_within("whole again", FORM_DEADLINE, whole)?;
        let written = writer.stop()?;
        // Not one from before: until it stops, the writer writes.
        let view = lab.view()?;
        written.check(&view)?;
        ensure!(processes(lab, &view)? == before, "no container was disturbed");
        Ok(())
    });
}

fn whole(view: &View) -> bool {
    view.ready() == 4 && view.voters() == 3 && view.settled("app", 3) && view.settled("victim", 1)
}

/// The processes of the tasks that nothing here touches.
fn processes(lab: &Lab, view: &View) -> anyhow::Result<BTreeMap<String, Process>> {
    let (numbers, node) = (view.processes(), lab.get(W1)?);
    let mut found = BTreeMap::new();
    for task in view.running_ids("app") {
        let (_, number) = numbers.get(&task).with_context(|| format!("task {task} has no process"))?;
        let process = node.process(*number)?.with_context(|| format!("task {task} does not run"))?;
        found.insert(task, process);
    }
    ensure!(found.len() == 3, "three run: {found:?}");
    Ok(found)
}

fn follower(lab: &Lab) -> anyhow::Result<Name> {
    let leader = lab.leader()?;
    [M1, M2, M3].into_iter().find(|name| *name != leader).context("no follower")
}

/// It says so, and everything goes on.
fn low_follower(lab: &mut Lab) -> anyhow::Result<()> {
    let low = follower(lab)?;
    disk::fill(lab.get(low)?, LOW)?;
    lab.until("it is warned of", |lab| {
        let warned = lab.info(low)?.warnings.iter().any(|warning| warning.contains("kept back"));
        Ok(warned && lab.get(low)?.log().contains("are kept back"))
    })?;
    lab.cli(low, "node update --label-add written=yes w1").ok()?;
    disk::make_room(lab.get(low)?)?;
    lab.until("it has room again", |lab| {
        Ok(lab.info(low)?.warnings.is_empty() && lab.get(low)?.log().contains("has room again"))
    })
}

/// Its daemon ends, says why, and comes back; the majority goes on all the time.
fn full_follower(lab: &mut Lab, writer: &Writer) -> anyhow::Result<()> {
    let full = follower(lab)?;
    disk::fill(lab.get(full)?, 0)?;
    ends_for_want_of_room(lab, full)?;
    lab.cli(lab.leader()?, &format!("node update --label-add during=yes {}", writer.target())).ok()?;
    start_is_refused(lab, full)?;
    disk::make_room(lab.get(full)?)?;
    lab.start_daemon(full)?;
    lab.eventually_within("it is back", FORM_DEADLINE, whole)?;
    Ok(())
}

/// Operators are refused what needs room; what the cluster itself writes, and what makes it smaller, goes on.
fn low_leader(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let asked = follower(lab)?;
    disk::fill(lab.get(leader)?, LOW)?;
    let directory = lab.get(leader)?.folders().data().join("raft").display().to_string();
    let words =
        [directory.as_str(), "free", "16.0 MiB are kept back", "takes no new work", "free some space"];
    lab.cli(asked, "service create --name more responder:1 sleep").refused(&words)?;
    lab.cli(asked, "node update --label-add more=yes w1").refused(&words)?;
    replace_victim(lab)?;
    lab.cli(asked, "service rm spare").ok()?;
    lab.eventually("its task is gone", |view| view.running("spare") == 0)?;
    disk::make_room(lab.get(leader)?)?;
    lab.cli(asked, "node update --label-add more=yes w1").ok()?;
    Ok(())
}

/// The process of a task ends and another takes its place: some kilobytes that the cluster writes for itself.
fn replace_victim(lab: &Lab) -> anyhow::Result<()> {
    // By process, not by task: without a leader the node starts the task that it has again.
    let number = |view: &View| {
        let task = view.running_ids("victim").pop_first()?;
        view.processes().get(&task).map(|(_, number)| *number)
    };
    let settled = |view: &View| view.settled("victim", 1);
    let view = lab.eventually_within("the victim runs", FORM_DEADLINE, settled)?;
    let before = number(&view).context("the victim has no process")?;
    lab.get(W1)?.kill_process(before)?;
    lab.eventually_within("another runs", FORM_DEADLINE, |view| {
        settled(view) && number(view).is_some_and(|number| number != before)
    })?;
    Ok(())
}

/// Another leads, and the containers are looked after.
fn full_leader(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    disk::fill(lab.get(leader)?, 0)?;
    let mut rounds = 0;
    while lab.get(leader)?.daemon().is_some() {
        ensure!(rounds < 40, "the leader's disk is full and its daemon goes on writing");
        replace_victim(lab)?;
        rounds += 1;
    }
    ends_for_want_of_room(lab, leader)?;
    lab.eventually("another leads", |view| view.leader().is_some_and(|name| name != leader.to_string()))?;
    replace_victim(lab)?;
    start_is_refused(lab, leader)?;
    disk::make_room(lab.get(leader)?)?;
    lab.start_daemon(leader)
}

fn ends_for_want_of_room(lab: &Lab, name: Name) -> anyhow::Result<()> {
    let node = lab.get(name)?;
    let ended = process::wait(END, || node.daemon().is_none().then_some(()));
    ensure!(ended.is_some(), "the disk of {name} is full and its daemon goes on:\n{}", node.log_tail(20));
    let data = node.folders().data().join("raft").display().to_string();
    let log = node.log();
    let last = log.lines().rev().find(|line| line.contains("raft failed")).unwrap_or_default();
    for word in [data.as_str(), "No space left on device", "free some space"] {
        ensure!(last.contains(word), "{name} ended without {word:?}: {last:?}\n{}", node.log_tail(20));
    }
    Ok(())
}

/// What an init system would see that starts the daemon again: it ends with an error that says what to do.
fn start_is_refused(lab: &Lab, name: Name) -> anyhow::Result<()> {
    let node = lab.get(name)?;
    let folders = node.folders();
    let mut command = node.host()?.command("timeout");
    command.arg("60").arg(lab.binary()).arg("daemon").arg("--data-dir").arg(folders.data());
    command.arg("--run-dir").arg(folders.run()).args(["--cgroup-parent", node.cgroup_parent()]);
    let output = command.stdin(Stdio::null()).output().context("start the daemon")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.code() == Some(1), "{name} on a full disk: {:?}\n{said}", output.status);
    for word in ["No space left on device", "free some space"] {
        ensure!(said.contains(word), "{name} on a full disk does not say {word:?}:\n{said}");
    }
    Ok(())
}
