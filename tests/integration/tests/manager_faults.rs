//! Managers fail: no acknowledged write is lost, and nothing that runs is disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1, W2};
use coracle_integration::process::Process;
use coracle_integration::view::View;

#[test]
fn managers_fail_and_nothing_is_lost() {
    harness::test("manager_faults", 3, 2, |lab| {
        lab.cli(
            M1,
            "service create --name app --replicas 6 --constraint node.role==worker responder:1 sleep",
        )
        .ok()?;
        leader_killed(lab)?;
        leader_cut_off(lab)?;
        leader_hears_nothing(lab)?;
        all_killed(lab)
    });
}

#[test]
fn a_follower_far_behind_catches_up_by_snapshot() {
    harness::test("snapshot", 3, 0, far_behind);
}

/// The processes of all tasks on workers.
fn containers(lab: &Lab, view: &View) -> anyhow::Result<BTreeMap<String, Process>> {
    let mut found = BTreeMap::new();
    for (task, (node, pid)) in view.processes() {
        let name = lab.by_hostname(&node)?;
        if let Some(process) = lab.get(name)?.process(pid)? {
            found.insert(task, process);
        }
    }
    anyhow::ensure!(found.len() == view.processes().len(), "every running task has its process:\n{view}");
    Ok(found)
}

fn whole(view: &View) -> bool {
    view.ready() == 5 && view.voters() == 3 && view.settled("app", 6)
}

fn leader_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let before = containers(lab, &lab.view()?)?;
    let writer = lab.start_writer(W2)?;
    let leader = lab.leader()?;
    lab.node(leader).kill_daemon()?;
    lab.eventually("another leads", |view| view.leader().is_some_and(|name| name != leader.to_string()))?;
    lab.start_daemon(leader)?;
    lab.eventually_within("whole again", FORM_DEADLINE, whole)?;
    let written = writer.stop()?;
    written.check(&lab.view()?)?;
    anyhow::ensure!(written.longest_gap < Duration::from_secs(5), "no write for {:?}", written.longest_gap);
    anyhow::ensure!(containers(lab, &lab.view()?)? == before, "no container was disturbed");
    Ok(())
}

fn leader_cut_off(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let others: Vec<Name> = [M1, M2, M3].into_iter().filter(|name| *name != leader).collect();
    lab.cut(leader, &others)?;
    lab.eventually_from(others.first().copied(), "the majority has a leader", FORM_DEADLINE, |view| {
        view.leader().is_some_and(|name| name != leader.to_string())
    })?;
    // What a minority acknowledges would be lost: it must not.
    let refused = lab.api(leader)?.set_label("w1", "minority", "1", Duration::from_secs(4));
    anyhow::ensure!(refused.is_err(), "a leader that is cut off acknowledged a write");
    let acknowledged = lab.api(others[0])?.set_label("w1", "majority", "1", Duration::from_secs(10));
    acknowledged.map_err(|error| error.context("the majority takes writes"))?;
    lab.heal(leader)?;
    let view = lab.eventually_within("whole again", FORM_DEADLINE, whole)?;
    let labels = view.node("w1").and_then(|item| item.node.as_ref()?.spec.as_ref()).map(|spec| &spec.labels);
    anyhow::ensure!(
        labels.is_some_and(|labels| labels.contains_key("majority") && !labels.contains_key("minority"))
    );
    lab.stays("no slot is filled twice", Duration::from_secs(2), |view| view.crowded_slots().is_empty())
}

/// The leader sends and does not hear: it must not go on leading for ever.
fn leader_hears_nothing(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let others: Vec<Name> = [M1, M2, M3].into_iter().filter(|name| *name != leader).collect();
    for other in &others {
        lab.cut_one_way(*other, leader)?;
    }
    let writer = lab.start_writer(W1)?;
    lab.until("writes go on through the others", |lab| {
        Ok(others.iter().any(|name| {
            lab.api(*name).is_ok_and(|api| api.set_label("w1", "deaf", "1", Duration::from_secs(1)).is_ok())
        }))
    })?;
    lab.heal(leader)?;
    lab.eventually_within("whole again", FORM_DEADLINE, whole)?;
    writer.stop()?.check(&lab.view()?)
}

fn all_killed(lab: &mut Lab) -> anyhow::Result<()> {
    let before = lab.view()?;
    let processes = containers(lab, &before)?;
    let token = lab.cli(M1, "swarm join-token -q worker").ok()?;
    for name in [M1, M2, M3] {
        lab.node(name).kill_daemon()?;
    }
    anyhow::ensure!(processes.values().all(|process| process.is_alive()), "workers go on without managers");
    for name in [M1, M2, M3] {
        lab.node(name).start_daemon()?;
    }
    let after = lab.eventually_within("whole again", FORM_DEADLINE, whole)?;
    anyhow::ensure!(after.running_ids("app") == before.running_ids("app"), "the same tasks:\n{after}");
    anyhow::ensure!(containers(lab, &after)? == processes, "the same processes");
    anyhow::ensure!(lab.cli(M1, "swarm join-token -q worker").ok()? == token, "the same token");
    Ok(())
}

fn far_behind(lab: &mut Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name big --replicas 0 responder:1 sleep").ok()?;
    let leader = lab.leader()?;
    let behind = [M1, M2, M3]
        .into_iter()
        .find(|name| *name != leader)
        .ok_or_else(|| anyhow::anyhow!("no follower"))?;
    lab.node(behind).kill_daemon()?;
    // Until the leader has dropped all log files of this time: what the follower lacks is then only in a snapshot.
    let files = log_files(lab, leader)?;
    anyhow::ensure!(!files.is_empty(), "the leader has a log");
    let mut rounds = 0;
    while !log_files(lab, leader)?.is_disjoint(&files) {
        anyhow::ensure!(rounds < 600, "300 MB were written and the log was not compacted: {files:?}");
        large_write(lab, leader, rounds)?;
        rounds += 1;
    }
    let applied = lab.info(leader)?.raft.map_or(0, |raft| raft.last_applied);
    let writer = lab.start_writer(leader)?;
    lab.start_daemon(behind)?;
    lab.until("it has caught up", |lab| {
        Ok(lab.info(behind)?.raft.is_some_and(|raft| raft.last_applied >= applied))
    })?;
    lab.eventually_within("all vote", FORM_DEADLINE, |view| view.voters() == 3 && view.ready() == 3)?;
    writer.stop()?.check(&lab.view_from(behind)?)
}

/// The segments of a manager's log.
fn log_files(lab: &Lab, name: Name) -> anyhow::Result<BTreeSet<OsString>> {
    let folder = lab.get(name)?.folders().data().join("raft/log");
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names: anyhow::Result<BTreeSet<OsString>> = names.collect();
    Ok(names?.into_iter().filter(|name| name.to_string_lossy().ends_with(".wal")).collect())
}

/// Replaces half a megabyte of labels of a service.
fn large_write(lab: &Lab, at: Name, round: u32) -> anyhow::Result<()> {
    use coracle_proto::v1;
    let api = lab.api(at)?;
    let mut services =
        v1::services_client::ServicesClient::new(api.channel()).max_decoding_message_size(16 << 20);
    let deadline = Duration::from_secs(20);
    let request = v1::GetServiceRequest { service: "big".into() };
    let service = api.call(deadline, services.get(request))?.service.unwrap_or_default();
    let mut spec = service.spec.unwrap_or_default();
    for part in 0..5 {
        let text = char::from(b'a' + u8::try_from(round % 26)?).to_string().repeat(100_000);
        spec.labels.insert(format!("part{part}"), format!("{round}{text}"));
    }
    let request = v1::UpdateServiceRequest {
        service: "big".into(),
        version: service.version,
        spec: Some(spec),
        idempotency_key: String::new(),
    };
    api.call(deadline, services.update(request)).map(drop)
}
