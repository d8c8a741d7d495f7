//! What must be true of the cluster when all faults were taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::services::{replicas_of, specification};
use crate::lab::Lab;
use crate::name::{M1, W1};
use crate::process::Process;
use crate::view::View;

/// A service that no client touches.
pub(super) const STEADY: &str = "steady";
/// Its tasks: some on each worker.
const TASKS: usize = 4;
/// How long the cluster may take to become whole; the machine may be busy with other things.
const WHOLE: Duration = Duration::from_secs(120);

/// The containers on the worker that is left alone, by task.
#[derive(Debug)]
pub(super) struct Steady {
    containers: BTreeMap<String, Process>,
    /// Since when the node had been ready.
    since: u64,
}

/// Starts a service that nobody touches.
pub(super) fn start_steady(lab: &Lab) -> Result<Steady> {
    use coracle_proto::v1::{CreateServiceRequest, services_client::ServicesClient};
    let api = lab.api(M1)?;
    let spec = Some(specification(STEADY, "steady", TASKS as u64));
    let request = CreateServiceRequest { spec, idempotency_key: String::new() };
    let mut client = ServicesClient::new(api.channel());
    api.call(WHOLE, client.create(request)).context("create the service that is left alone")?;
    let view = lab.eventually("it runs", |view| view.settled(STEADY, TASKS))?;
    let steady = Steady { containers: containers(lab, &view)?, since: ready_since(&view) };
    ensure!(!steady.containers.is_empty(), "some of it runs on {W1}:\n{view}");
    Ok(steady)
}

/// Waits until all nodes are ready, all managers vote, and every service is as it should be.
pub(super) fn wait_whole(lab: &Lab) -> Result<()> {
    let all = lab.names().len();
    let managers = lab.names().iter().filter(|name| name.is_manager()).count();
    // Clients go on writing: here only what they do not change.
    lab.eventually_within("all nodes are ready again, all managers vote", WHOLE, |view| {
        view.ready() == all && view.voters() == managers && view.running(STEADY) == TASKS
    })?;
    Ok(())
}

/// Checks what can be seen of tasks and processes, once nobody writes any more. Gives how often the untouched worker
/// was taken for lost.
pub(super) fn check(lab: &Lab, before: &Steady) -> Result<u32> {
    let view = lab.eventually_within("every service has converged", WHOLE, |view| {
        converged(view) && nothing_left(view)
    })?;
    ensure!(
        view.crowded_slots().is_empty(),
        "more than one task runs in {:?}:\n{view}",
        view.crowded_slots()
    );
    lab.until("every manager has applied the same", applied_the_same)?;
    lab.until("just the processes of the tasks run", no_other_process)?;
    let lost = u32::from(ready_since(&view) != before.since);
    if lost == 0 {
        let now = containers(lab, &view)?;
        for (task, process) in &before.containers {
            ensure!(
                now.get(task) == Some(process),
                "the container of task {task} on {W1} was disturbed:\n{view}"
            );
        }
    }
    Ok(lost)
}

fn converged(view: &View) -> bool {
    let specs = view.services.iter().filter_map(|item| item.service.as_ref()?.spec.as_ref());
    let mut wanted =
        specs.map(|spec| (spec.name.as_str(), usize::try_from(replicas_of(spec)).unwrap_or(usize::MAX)));
    wanted.all(|(name, count)| view.settled(name, count))
}

/// No task of a service that was removed may still do something.
fn nothing_left(view: &View) -> bool {
    let names: Vec<&str> = view
        .services
        .iter()
        .filter_map(|item| Some(item.service.as_ref()?.spec.as_ref()?.name.as_str()))
        .collect();
    view.tasks.iter().all(|task| task.is_terminal() || names.contains(&task.service.as_str()))
}

fn applied_the_same(lab: &Lab) -> Result<bool> {
    let managers = lab.names().into_iter().filter(|name| name.is_manager());
    let applied = managers.map(|name| Ok(lab.info(name)?.raft.map(|raft| raft.last_applied)));
    let applied: Vec<Option<u64>> = applied.collect::<Result<_>>()?;
    Ok(applied.iter().all(|index| index.is_some() && *index == applied[0]))
}

/// What the managers say runs is all that runs: counted from outside.
fn no_other_process(lab: &Lab) -> Result<bool> {
    let view = lab.view()?;
    for name in lab.names() {
        let node = lab.get(name)?;
        let here = view.processes().into_values().filter(|(host, _)| *host == name.to_string());
        let mut reported =
            here.map(|(_, pid)| node.process(pid)?.context("no such process")).collect::<Result<Vec<_>>>()?;
        let mut present: Vec<Process> =
            node.other_processes()?.into_iter().filter(|one| is_responder(*one)).collect();
        reported.sort_unstable_by_key(|process| process.pid);
        present.sort_unstable_by_key(|process| process.pid);
        if reported != present {
            bail!("on {name} the tasks' processes are {reported:?}, but there are {present:?}:\n{view}");
        }
    }
    Ok(true)
}

fn is_responder(process: Process) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
    name.trim().contains("responder")
}

/// The containers of the service that nobody touches on the node that nobody touches.
fn containers(lab: &Lab, view: &View) -> Result<BTreeMap<String, Process>> {
    let ids = view.running_ids(STEADY);
    let here = view
        .processes()
        .into_iter()
        .filter(|(task, (node, _))| ids.contains(task) && *node == W1.to_string());
    here.map(|(task, (_, pid))| {
        let process = lab.get(W1)?.process(pid)?;
        Ok((task, process.with_context(|| format!("there is no process {pid} on {W1}"))?))
    })
    .collect()
}

fn ready_since(view: &View) -> u64 {
    let node = view.node(&W1.to_string()).and_then(|item| item.node.as_ref());
    node.and_then(|node| node.status.as_ref()).map_or(0, |status| status.since)
}
