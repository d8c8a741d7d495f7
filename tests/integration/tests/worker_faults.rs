//! Workers fail: their containers do not, and what is lost runs elsewhere, once.

use std::time::Duration;

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, W1, W2};
use coracle_integration::process::Process;
use coracle_integration::view::View;
use coracle_proto::v1::exit::How;

#[test]
fn containers_outlive_daemons_and_lost_tasks_run_elsewhere() {
    harness::test("worker_faults", 1, 2, |lab| {
        daemon_killed_and_back(lab)?;
        worker_cut_off(lab)?;
        worker_loses_power(lab)?;
        no_manager_at_all(lab)
    });
}

/// The process of every running task of a service on a node.
fn processes_on(lab: &Lab, view: &View, service: &str, node: &str) -> anyhow::Result<Vec<Process>> {
    let tasks = view.tasks_of(service).filter(|task| task.is_running() && task.node == node);
    let name = lab.by_hostname(node)?;
    let found = tasks.map(|task| {
        let process = lab.get(name)?.process(task.pid)?;
        process.ok_or_else(|| anyhow::anyhow!("task {} has no process {} on {node}", task.id, task.pid))
    });
    found.collect()
}

fn daemon_killed_and_back(lab: &mut Lab) -> anyhow::Result<()> {
    let flags = "--constraint node.hostname==w1 --restart-condition none";
    lab.cli(M1, &format!("service create --name app --replicas 3 {flags} responder:1 sleep")).ok()?;
    lab.cli(M1, &format!("service create --name brief --detach {flags} responder:1 crash-after 2")).ok()?;
    let before = lab.eventually("all run", |view| view.settled("app", 3) && view.running("brief") == 1)?;
    let processes = processes_on(lab, &before, "app", "w1")?;
    let killed = before.tasks_of("app").next().ok_or_else(|| anyhow::anyhow!("no task"))?.clone();
    let ends = processes_on(lab, &before, "brief", "w1")?;

    lab.node(W1).kill_daemon()?;
    anyhow::ensure!(processes.iter().all(|process| process.is_alive()), "containers outlive the daemon");
    let told = lab.cli(M1, "service logs app").ok_both()?;
    anyhow::ensure!(told.contains("w1"), "whose lines are missing is said: {told:?}");
    lab.get(W1)?.kill_process(killed.pid)?;
    for process in &ends {
        process.wait_gone(Duration::from_secs(20))?;
    }
    lab.start_daemon(W1)?;
    let after = lab.eventually("what ended meanwhile is told", |view| {
        let of = |id: &str| view.tasks.iter().find(|task| task.id == id).cloned();
        of(&killed.id).is_some_and(|task| task.exit == Some(How::Signal(9)))
            && view.tasks_of("brief").any(|task| task.exit_code() == Some(1))
            && view.is_ready("w1")
    })?;
    anyhow::ensure!(after.tasks_of("app").count() == 3, "nothing was rescheduled:\n{after}");
    let kept = processes_on(lab, &after, "app", "w1")?;
    anyhow::ensure!(kept.len() == 2 && kept.iter().all(|process| processes.contains(process)), "{after}");
    lab.cli(M1, "service rm app brief").ok()?;
    lab.eventually("all is removed", |view| view.tasks.is_empty())?;
    Ok(())
}

fn worker_cut_off(lab: &mut Lab) -> anyhow::Result<()> {
    let place = "--constraint node.role==worker";
    lab.cli(M1, &format!("service create --name app --replicas 4 {place} responder:1 sleep")).ok()?;
    let before = lab.view()?;
    let stale = processes_on(lab, &before, "app", "w1")?;
    anyhow::ensure!(stale.len() == 2, "two on each worker:\n{before}");
    lab.isolate(W1)?;
    lab.eventually("its tasks run elsewhere", |view| {
        view.is_down("w1") && view.running_on("app", "w2") == 4
    })?;
    anyhow::ensure!(stale.iter().all(|process| process.is_alive()), "who is cut off keeps what it has");
    lab.heal(W1)?;
    lab.eventually("it is ready again", |view| view.is_ready("w1"))?;
    anyhow::ensure!(
        !stale.iter().any(|process| process.is_alive()),
        "ready only after stale tasks are stopped"
    );
    lab.eventually("four run, none twice", |view| view.settled("app", 4))?;
    lab.cli(M1, "service rm app").ok()?;
    lab.eventually("all is removed", |view| view.tasks.is_empty())?;
    Ok(())
}

fn worker_loses_power(lab: &mut Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name app --replicas 4 --constraint node.role==worker responder:1 sleep")
        .ok()?;
    lab.power_off(W2)?;
    lab.eventually("its tasks run elsewhere", |view| {
        view.is_down("w2") && view.running_on("app", "w1") == 4
    })?;
    lab.power_on(W2)?;
    lab.eventually("it is ready again", |view| view.is_ready("w2") && view.settled("app", 4))?;
    anyhow::ensure!(lab.get(W2)?.other_processes()?.is_empty(), "nothing stale was started");
    lab.cli(M1, "service rm app").ok()?;
    lab.eventually("all is removed", |view| view.tasks.is_empty())?;
    Ok(())
}

fn no_manager_at_all(lab: &mut Lab) -> anyhow::Result<()> {
    let flags = "--replicas 2 --constraint node.hostname==w1 --restart-delay 200ms";
    lab.cli(M1, &format!("service create --name app {flags} responder:1 sleep")).ok()?;
    let before = lab.view()?;
    let processes = processes_on(lab, &before, "app", "w1")?;
    let crashed = before.tasks_of("app").next().ok_or_else(|| anyhow::anyhow!("no task"))?.clone();
    lab.node(M1).kill_daemon()?;
    let supervised = lab.get(W1)?.other_processes()?.len();
    // The agent must have noticed that it is alone before it may act alone.
    lab.until("the worker knows that it is alone", |lab| Ok(lab.info(W1)?.session_with.is_empty()))?;
    lab.get(W1)?.kill_process(crashed.pid)?;
    lab.until("the worker starts it again by itself", |lab| {
        let now = lab.get(W1)?.other_processes()?;
        Ok(now.len() == supervised && processes.iter().filter(|process| process.is_alive()).count() == 1)
    })?;
    lab.start_daemon(M1)?;
    let after = lab.eventually_within("the manager sees it run", FORM_DEADLINE, |view| {
        view.ready() == 3 && view.tasks.iter().any(|task| task.id == crashed.id && task.local_restarts == 1)
    })?;
    anyhow::ensure!(
        after.running_ids("app") == before.running_ids("app"),
        "the same tasks as before:\n{after}"
    );
    lab.cli(M1, "service rm app").ok()?;
    Ok(())
}
