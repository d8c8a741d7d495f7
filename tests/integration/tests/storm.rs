//! Most nodes vanish at once: they are not given up at once, the operator is told and can decide, and who stays away is given up.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name, W2, W3};
use coracle_integration::view::View;

const W4: Name = Name::Worker(4);
/// Three of the lab's five nodes.
const MOST: [Name; 3] = [W2, W3, W4];
/// Longer than anything here takes, so that no slow machine is taken for the end of it.
const LONG_HOLD: &str = "600";
const SHORT_HOLD: &str = "2";
const TOLD: &str = "3 of 5 nodes vanished at once (w2, w3, w4)";

#[test]
fn most_nodes_vanish_at_once() {
    harness::bare("storm", 1, 4, |lab| {
        begin_anew(lab, LONG_HOLD)?;
        lab.form()?;
        lab.load_responder(M1)?;
        let place = "--constraint node.role==worker --restart-delay 50ms --stop-grace-period 1s";
        lab.cli(M1, &format!("service create --name app --replicas 8 {place} responder:1 sleep")).ok()?;
        few_are_given_up(lab)?;
        most_come_back(lab)?;
        the_operator_knows_better(lab)?;
        most_stay_away(lab)
    });
}

/// The daemon of the manager begins anew, with another time for which evictions are held back.
fn begin_anew(lab: &mut Lab, hold: &str) -> Result<()> {
    lab.node(M1).stop_daemon()?;
    lab.node(M1).set_environment(&[("CORACLE_HOLD_SECONDS", hold)]);
    lab.start_daemon(M1)
}

fn all_are_well(lab: &Lab) -> Result<View> {
    lab.eventually("all nodes are ready, all tasks run", |view| view.ready() == 5 && view.settled("app", 8))
}

/// What `node ls` says besides the nodes.
fn listed(lab: &Lab) -> Result<String> {
    lab.cli(M1, "node ls").ok_both()
}

/// Puts the cables back, and two tasks on each worker.
fn heal_and_spread(lab: &mut Lab, names: &[Name]) -> Result<()> {
    for name in names {
        lab.heal(*name)?;
    }
    lab.eventually("all are back", |view| view.ready() == 5)?;
    lab.cli(M1, "service update --force --update-parallelism 0 app").ok()?;
    let view = all_are_well(lab)?;
    let crowded = ["w1", "w2", "w3", "w4"].map(|node| view.running_on("app", node));
    ensure!(crowded == [2; 4], "two on each worker:\n{view}");
    Ok(())
}

fn few_are_given_up(lab: &mut Lab) -> Result<()> {
    all_are_well(lab)?;
    lab.isolate(W3)?;
    lab.isolate(W4)?;
    lab.eventually("two of five are down, and their tasks run elsewhere", |view| {
        view.is_down("w3") && view.is_down("w4") && view.running_on("app", "w1") == 4
    })?;
    ensure!(!listed(lab)?.contains("vanished"), "nothing is held back");
    heal_and_spread(lab, &[W3, W4])
}

/// Cuts most nodes off and waits until the operator is told; everything is as before.
fn cut_most_off(lab: &mut Lab) -> Result<BTreeSet<String>> {
    let before = all_are_well(lab)?.running_ids("app");
    for name in MOST {
        lab.isolate(name)?;
    }
    lab.until("the operator is told", |lab| Ok(listed(lab)?.contains(TOLD)))?;
    let said = listed(lab)?;
    for word in ["warning", "another", "--availability drain", "node rm --force", "soon believed"] {
        ensure!(said.contains(word), "`node ls` does not say {word:?}:\n{said}");
    }
    ensure!(lab.get(M1)?.log().contains(TOLD), "the log says it as well");
    is_undisturbed(&lab.view()?, &before)?;
    Ok(before)
}

fn is_undisturbed(view: &View, before: &BTreeSet<String>) -> Result<()> {
    ensure!(view.ready() == 5 && view.settled("app", 8), "nobody is given up:\n{view}");
    ensure!(view.running_ids("app") == *before, "other tasks than before:\n{view}");
    Ok(())
}

fn most_come_back(lab: &mut Lab) -> Result<()> {
    let before = cut_most_off(lab)?;
    let view = lab.view()?;
    let running = view.tasks_of("app").filter(|task| task.is_running());
    let processes = running.map(|task| {
        let process = lab.get(lab.by_hostname(&task.node)?)?.process(task.pid)?;
        process.with_context(|| format!("task {} does not run", task.id))
    });
    let processes = processes.collect::<Result<Vec<_>>>();
    for name in MOST {
        lab.heal(name)?;
    }
    lab.until("nothing is held back any more", |lab| Ok(!listed(lab)?.contains("vanished")))?;
    lab.until("all hold sessions", |lab| Ok(lab.view()?.nodes.iter().all(|node| node.reachable)))?;
    is_undisturbed(&lab.view()?, &before)?;
    ensure!(processes?.iter().all(|process| process.is_alive()), "a container was ended");
    ensure!(lab.get(M1)?.log().contains("nodes may be declared down again"), "its end is logged");
    Ok(())
}

/// One that is drained is given up at once; then it is two of four, and the others are, too.
fn the_operator_knows_better(lab: &mut Lab) -> Result<()> {
    cut_most_off(lab)?;
    lab.cli(M1, "node update --availability drain w2").ok()?;
    lab.eventually("what they had runs elsewhere", |view| {
        MOST.iter().all(|name| view.is_down(&name.to_string())) && view.running_on("app", "w1") == 8
    })?;
    lab.cli(M1, "node update --availability active w2").ok()?;
    heal_and_spread(lab, &MOST)
}

fn most_stay_away(lab: &mut Lab) -> Result<()> {
    begin_anew(lab, SHORT_HOLD)?;
    all_are_well(lab)?;
    lab.until("all hold sessions", |lab| Ok(lab.view()?.nodes.iter().all(|node| node.reachable)))?;
    for name in MOST {
        lab.power_off(name)?;
    }
    lab.eventually("what they had runs elsewhere", |view| {
        MOST.iter().all(|name| view.is_down(&name.to_string())) && view.running_on("app", "w1") == 8
    })?;
    let log = lab.get(M1)?.log();
    let life = log.rsplit("lab: daemon starts").next().unwrap_or_default();
    let held = life.find(TOLD).context("it was not held back")?;
    ensure!(
        life.find("node is down").is_some_and(|down| down > held),
        "given up before it was held back:\n{life}"
    );
    // For good: the three are forgotten, and it is no storm when they go.
    for name in MOST {
        lab.cli(M1, &format!("node rm --force {name}")).ok()?;
    }
    ensure!(lab.view()?.nodes.len() == 2, "two are left:\n{}", lab.view()?);
    Ok(())
}
