//! Tasks are moved to a node that joined, under changing leaders, and never fewer run than are wanted.

use std::cell::Cell;

use anyhow::{Context as _, Result, ensure};
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, W2};
use coracle_integration::view::View;

#[test]
fn a_node_that_joins_gets_its_share() {
    harness::test("rebalance", 3, 1, |lab| {
        for (name, more) in [("asked", ""), ("auto", "--rebalance auto")] {
            let line = format!(
                "service create --name {name} --replicas 4 --rebalance-delay 1s --update-monitor 500ms \
                 --constraint node.role==worker {more} responder:1 sleep"
            );
            lab.cli(M1, &line).ok()?;
        }
        lab.cli(M1, "service rebalance --dry-run asked").ok()?;
        let token = lab.cli(M1, "swarm join-token -q worker").ok()?;
        lab.add(W2)?;
        lab.cli(W2, &format!("swarm join --token {token} {}:2377", M1.address())).ok()?;
        lab.eventually("w2 is ready", |view| view.is_ready("w2"))?;
        let planned = lab.cli(M1, "service rebalance --dry-run --format '{{.From}} {{.To}}' asked").ok()?;
        ensure!(planned.lines().eq(["w1 w2", "w1 w2"]), "two are to be moved:\n{planned}");
        lab.cli(M1, "service rebalance --detach asked").ok()?;
        watched(lab, "the first is moved", |view| view.running_on("asked", "w2") == 1)?;
        another_leads(lab)?;
        let end = |view: &View| {
            ["asked", "auto"].iter().all(|name| view.running_on(name, "w2") == 2 && view.settled(name, 4))
        };
        watched(lab, "both are even", end)?;
        lab.until("it says what it did", |lab| {
            let told = lab.cli(M1, "service inspect --format {{.Rebalance.Message}} asked").ok()?;
            Ok(told.trim() == "2 tasks moved")
        })?;
        lab.cli(M1, "service rebalance asked").ok()?;
        let told = lab.cli(M1, "service inspect --pretty asked").ok()?;
        ensure!(told.contains("nothing to move"), "{told}");
        lab.cli(M1, "service rm asked auto").ok()?;
        Ok(())
    });
}

/// Waits; at every look no fewer tasks run than are wanted.
fn watched(lab: &Lab, what: &str, mut reached: impl FnMut(&View) -> bool) -> Result<()> {
    let least = Cell::new(usize::MAX);
    let view = lab.eventually(what, |view| {
        least.set(least.get().min(view.running("asked")).min(view.running("auto")));
        least.get() < 4 || reached(view)
    })?;
    ensure!(least.get() >= 4, "before {what}: {} of 4 run:\n{view}", least.get());
    Ok(())
}

fn another_leads(lab: &mut Lab) -> Result<()> {
    let leader = lab.leader().context("somebody leads")?;
    lab.node(leader).kill_daemon()?;
    lab.eventually("another leads", |view| view.leader().is_some_and(|name| name != leader.to_string()))?;
    lab.start_daemon(leader)?;
    lab.wait_answers(leader)
}
