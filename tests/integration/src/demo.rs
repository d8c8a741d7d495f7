//! The demo: a tour of a cluster of five hosts, told as an operator would see it.
//!
//! Every claim is checked before it is printed; a claim that does not come true within its deadline ends the demo
//! with an error, after everything was taken down.
#![expect(clippy::print_stdout, reason = "what it says is what it is for")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::image::{self, RESPONDER};
use crate::lab::{self, DEADLINE, Lab, Plan};
use crate::name::{M1, Name};
use crate::view::{Task, View};
use crate::{harness, http, process};

/// Hosts that become managers, and hosts that stay workers.
const SIZE: (u8, u8) = (3, 2);
/// Where the global service answers, on every host.
const PORT: u16 = 8080;

/// Runs the demo; with `keep` the cluster stays up at its end.
///
/// # Errors
/// When something that it claims does not come true, or the machine does not allow it.
pub fn run(keep: bool) -> Result<()> {
    if let Some(reason) = harness::missing() {
        bail!("the demo {reason}");
    }
    let plan = plan(keep)?;
    let folder = plan.folder.clone();
    let start = Instant::now();
    println!("Coracle, on five pretended hosts: each has its own network, processes, mounts and name.");
    let mut lab = Lab::new(plan)?;
    lab::catch_interrupt(lab.runtime())?;
    if let Err(error) = tour(&mut lab) {
        lab.keep_artifacts();
        let ended = lab.end();
        let error = error.context(format!("logs are in {}", folder.display()));
        return ended.and(Err(error));
    }
    if keep {
        lab.leave()?;
        return explain(&folder);
    }
    farewell(lab)?;
    println!(
        "\nDone in {:.0} s. `cargo xtask demo --keep` leaves the cluster up for you.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Ends a cluster that `run` left up.
///
/// # Errors
/// When something of it remains.
pub fn stop() -> Result<()> {
    let folder = folder();
    let Some(lab) = Lab::adopt(&folder)? else {
        println!("No demo is up.");
        return Ok(());
    };
    lab.end()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    println!("The demo is down; nothing of it is left.");
    Ok(())
}

fn folder() -> PathBuf {
    harness::target().join("demo")
}

fn plan(keep: bool) -> Result<Plan> {
    let folder = folder();
    if folder.join("lab.json").exists() {
        bail!("a demo is up already: `cargo xtask demo --stop` ends it");
    }
    let mut plan = Plan::bound(&folder, &harness::built("CORACLE_BIN", "coracle")?);
    if keep {
        "demo".clone_into(&mut plan.run);
        plan.bound = false;
    }
    Ok(plan)
}

fn tour(lab: &mut Lab) -> Result<()> {
    hosts(lab)?;
    swarm(lab)?;
    services(lab)?;
    lost_container(lab)?;
    lost_leader(lab)?;
    changes(lab)
}

fn hosts(lab: &mut Lab) -> Result<()> {
    heading("Five hosts, a daemon on each");
    for name in Name::all(SIZE.0, SIZE.1) {
        lab.add(name)?;
        println!("   {name}  {}  {}", name.address(), lab.get(name)?.folders().data().display());
    }
    Ok(())
}

fn swarm(lab: &mut Lab) -> Result<()> {
    heading("A swarm: init on m1, the others join with a token");
    show(lab, M1, &format!("swarm init --advertise-addr {}", M1.address()))?;
    let manager = lab.cli(M1, "swarm join-token -q manager").ok()?;
    let worker = lab.cli(M1, "swarm join-token -q worker").ok()?;
    for name in Name::all(SIZE.0, SIZE.1).filter(|name| *name != M1) {
        let token = if name.is_manager() { &manager } else { &worker };
        println!("   {name}$ coracle swarm join --token CRCTKN-… {}:2377", M1.address());
        lab.cli(name, &format!("swarm join --token {token} {}:2377", M1.address())).ok()?;
    }
    let formed = |view: &View| view.ready() == 5 && view.voters() == 3;
    lab.eventually_within("five nodes are ready, three managers vote", lab::FORM_DEADLINE, formed)?;
    show(lab, M1, "node ls")
}

fn services(lab: &mut Lab) -> Result<()> {
    heading("An image, loaded once, and two services: the other hosts fetch the image by its digest");
    let archive = lab.folder().join("responder.tar");
    std::fs::write(&archive, image::saved_archive(&image::responder_binary()?, RESPONDER)?)?;
    show(lab, M1, &format!("image load -i {}", archive.display()))?;
    show(lab, M1, &format!("service create --name web --replicas 6 --restart-delay 500ms {RESPONDER}"))?;
    show(
        lab,
        M1,
        &format!("service create --name hello --mode global --network host --env PORT={PORT} {RESPONDER}"),
    )?;
    lab.eventually("both services run", |view| view.settled("web", 6) && view.settled("hello", 5))?;
    show(lab, M1, "service ls")?;
    show(lab, M1, "service ps web")?;
    println!("   The global service uses its hosts' networks. From m1:");
    for name in lab.names() {
        let address = format!("{}:{PORT}", name.address());
        let host = lab.get(M1)?.host()?;
        let body = process::wait(DEADLINE, || http::get(host, &address).ok());
        let body = body.with_context(|| format!("no answer from http://{address}"))?;
        println!("     http://{address}/  {}", body.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn lost_container(lab: &Lab) -> Result<()> {
    heading("A container is killed");
    let view = lab.view()?;
    let lost = view.tasks_of("web").find(|task| task.is_running()).context("no task of web runs")?.clone();
    let node = lab.by_hostname(&lost.node)?;
    println!("   {node}$ kill -9 {}      (web.{})", lost.pid, lost.slot);
    lab.get(node)?.kill_process(lost.pid)?;
    let start = Instant::now();
    let view = lab.eventually("the slot has a new task", |view| replacement(view, &lost).is_some())?;
    let new = replacement(&view, &lost).map_or("", |task| task.node.as_str());
    println!(
        "   web.{} runs again, on {new}, after {} (its restart delay is 0.5 s)",
        lost.slot,
        seconds(start)
    );
    show(lab, M1, "service ps web")
}

fn replacement<'view>(view: &'view View, lost: &Task) -> Option<&'view Task> {
    let same_slot = |task: &&Task| task.service == lost.service && task.slot == lost.slot;
    view.tasks.iter().filter(same_slot).find(|task| task.id != lost.id && task.is_running())
}

fn lost_leader(lab: &mut Lab) -> Result<()> {
    let lost = lab.leader()?;
    heading(&format!("The leader's daemon is killed: {lost}"));
    let before = lab.view()?;
    println!("   {lost}$ kill -9 $(pidof coracle)");
    lab.node(lost).kill_daemon()?;
    let start = Instant::now();
    let (leader, taken) = first_write(lab, lost, start)?;
    println!("   {leader} leads, and acknowledged a write {taken} after the kill");
    let left = lab.get(lost)?.other_processes()?.len();
    println!("   {lost}'s containers run on without it: {left} processes");
    if left == 0 {
        bail!("the containers of {lost} ended with its daemon");
    }
    let hostname = lost.to_string();
    let view = lab.eventually("the lost node's tasks run elsewhere", |view| {
        view.is_down(&hostname) && view.running("web") == 6 && view.running_on("web", &hostname) == 0
    })?;
    let kept = before.running_ids("web").intersection(&view.running_ids("web")).count();
    println!("   After its grace {lost} is down; its tasks run elsewhere, {kept} of 6 were never disturbed:");
    show(lab, leader, "node ls")?;
    println!("   {lost}$ coracle daemon      (again)");
    lab.start_daemon(lost)?;
    lab.eventually("the returned node is ready and has stopped what is no longer its", |view| {
        view.ready() == 5 && view.voters() == 3 && view.settled("web", 6) && view.settled("hello", 5)
    })?;
    println!("   {lost} is back, stopped its stale tasks first, and votes again");
    show(lab, leader, "node ls")
}

/// Tries small writes on the other managers until one is acknowledged; gives the leader and the time that it took.
fn first_write(lab: &Lab, lost: Name, start: Instant) -> Result<(Name, String)> {
    let others: Vec<Name> =
        lab.names().into_iter().filter(|name| name.is_manager() && *name != lost).collect();
    let target = others.first().context("no other manager")?;
    lab.until("a write is acknowledged", |lab| {
        let line = format!("node update --label-add seen={} {target}", start.elapsed().as_millis());
        Ok(others.iter().any(|name| lab.cli(*name, &line).ok().is_ok()))
    })?;
    let taken = seconds(start);
    Ok((lab.leader()?, taken))
}

fn changes(lab: &Lab) -> Result<()> {
    heading("Changes: more replicas, then a new environment, slot by slot");
    let leader = lab.leader()?;
    show(lab, leader, "service scale web=9")?;
    lab.eventually("nine tasks run", |view| view.settled("web", 9))?;
    let old = lab.view()?.running_ids("web");
    show(lab, leader, "service update --env-add COLOUR=green web")?;
    lab.eventually_within("all nine are new", lab::FORM_DEADLINE, |view| {
        view.settled("web", 9) && view.running_ids("web").is_disjoint(&old)
    })?;
    show(lab, leader, "service ls")?;
    show(lab, leader, "service logs --tail 2 hello")
}

fn farewell(lab: Lab) -> Result<()> {
    heading("The end: services removed, daemons asked to stop");
    let leader = lab.leader()?;
    show(&lab, leader, "service rm web hello")?;
    lab.eventually("no task is left", |view| view.tasks.is_empty())?;
    lab.until("no container is left", |lab| {
        let left = lab.names().into_iter().map(|name| Ok(lab.get(name)?.other_processes()?.len()));
        Ok(left.sum::<Result<usize>>()? == 0)
    })?;
    println!("   no task, no container, no supervisor is left on any host");
    let mut lab = lab;
    for name in lab.names() {
        lab.node(name).stop_daemon()?;
    }
    println!("   all daemons ended when asked");
    let folder = lab.folder().to_owned();
    lab.end()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

fn explain(folder: &std::path::Path) -> Result<()> {
    let binary = harness::built("CORACLE_BIN", "coracle")?;
    println!("\nThe cluster stays up. An operator's shell on m1:\n");
    println!("  export CORACLE_SOCKET={}", folder.join("m1/run/coracle.sock").display());
    println!("  alias coracle={}\n", binary.display());
    println!("  coracle node ls");
    println!("  coracle service ps web");
    println!("  coracle service scale web=20");
    println!("  coracle service create --name hog --limit-memory 32m {RESPONDER} allocate 64");
    println!("  coracle node update --availability drain w1");
    println!("  coracle service logs -f hello");
    println!("\nDaemons' logs: {}/*/daemon.log", folder.display());
    println!("All of it is ended by: cargo xtask demo --stop");
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs a command on a host as an operator, with what it prints.
fn show(lab: &Lab, name: Name, line: &str) -> Result<()> {
    println!("   {name}$ coracle {line}");
    for line in lab.cli(name, line).ok_both()?.lines() {
        println!("     {line}");
    }
    Ok(())
}

fn seconds(start: Instant) -> String {
    let elapsed: Duration = start.elapsed();
    format!("{:.2} s", elapsed.as_secs_f64())
}
