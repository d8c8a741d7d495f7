//! Nodes are demoted, promoted and removed while they are off: each comes back as what it should be now, or is told that it is out.

use anyhow::{Result, ensure};
use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1, W2};
use coracle_proto::v1::NodeRole;

#[test]
fn roles_change_while_nodes_are_off() {
    harness::test("off_meanwhile", 3, 2, |lab| {
        let flags = "--mode global --stop-grace-period 1s";
        lab.cli(M1, &format!("service create --name app {flags} responder:1 sleep")).ok()?;
        let leader = lab.leader()?;
        let follower = [M1, M2, M3].into_iter().find(|name| *name != leader).unwrap_or(M3);
        changed_while_off(lab, leader, follower)?;
        a_manager_is_removed_while_off(lab, leader)
    });
}

/// Whether the node takes part as this role says: its certificate, its part in Raft, and what the managers have of it.
fn is(lab: &Lab, name: Name, role: NodeRole) -> Result<bool> {
    let Ok(info) = lab.info(name) else { return Ok(false) };
    let manages = role == NodeRole::Manager;
    let answers = lab.cli(name, "node ls -q").code()? == 0;
    Ok(info.role() == role
        && info.raft.is_some() == manages
        && answers == manages
        && !info.session_with.is_empty())
}

fn changed_while_off(lab: &mut Lab, leader: Name, follower: Name) -> Result<()> {
    for name in [follower, W1] {
        lab.node(name).kill_daemon()?;
    }
    // One after the other: three of five at once might be the leader's own link.
    lab.eventually("two are down", |view| [follower, W1].iter().all(|name| view.is_down(&name.to_string())))?;
    lab.power_off(W2)?;
    lab.eventually("the third is down", |view| view.is_down("w2"))?;
    lab.cli(leader, &format!("node demote {follower}")).ok()?;
    lab.cli(leader, "node promote w1").ok()?;
    lab.cli(leader, "node rm w2").ok()?;
    for name in [follower, W1] {
        lab.start_daemon(name)?;
    }
    lab.power_on(W2)?;
    lab.eventually_within("all are what they should be", FORM_DEADLINE, |view| {
        view.nodes.len() == 4 && view.ready() == 4 && view.voters() == 3 && view.settled("app", 4)
    })?;
    lab.until("the one that was demoted is a worker", |lab| is(lab, follower, NodeRole::Worker))?;
    lab.until("the one that was promoted is a manager", |lab| is(lab, W1, NodeRole::Manager))?;
    is_out(lab, W2)?;
    // And it is asked in again as what it says.
    lab.cli(W2, "swarm leave --force").ok()?;
    let token = lab.cli(leader, "swarm join-token -q worker").ok()?;
    lab.cli(W2, &format!("swarm join --token {token} {}:2377", leader.address())).ok()?;
    lab.eventually("it is a node like any other", |view| view.ready() == 5 && view.settled("app", 5))?;
    Ok(())
}

/// It was told, it says so to whoever looks, and nothing runs there any more.
fn is_out(lab: &Lab, name: Name) -> Result<()> {
    lab.until("it says that it was removed", |lab| {
        let log = lab.get(name)?.log();
        Ok(log.rsplit("lab: daemon starts").next().is_some_and(|life| life.contains("was removed")))
    })?;
    lab.until("nothing runs there", |lab| {
        Ok(lab.info(name).is_ok_and(|info| info.containers_running == 0 && info.session_with.is_empty()))
    })?;
    lab.cli(name, "node ls").refused(&[])?;
    Ok(())
}

/// It has everything that a manager has, and is believed nothing: the others keep their leader.
fn a_manager_is_removed_while_off(lab: &mut Lab, leader: Name) -> Result<()> {
    lab.node(W1).kill_daemon()?;
    lab.eventually("it is down", |view| view.is_down("w1"))?;
    lab.cli(leader, "node demote w1").ok()?;
    lab.until("it may be removed", |lab| match lab.cli(leader, "node rm w1").ok() {
        Ok(_) => Ok(true),
        // Who is quicker than Raft is told so.
        Err(error) if error.to_string().contains("still leaving raft") => Ok(false),
        Err(error) => Err(error),
    })?;
    lab.eventually("two vote", |view| view.voters() == 2 && view.nodes.len() == 4)?;
    let term =
        |lab: &Lab| Ok::<_, anyhow::Error>(lab.info(leader)?.raft.map(|raft| (raft.term, raft.is_leader)));
    let before = term(lab)?;
    lab.start_daemon(W1)?;
    is_out(lab, W1)?;
    ensure!(lab.info(W1)?.raft.is_none_or(|raft| !raft.is_leader), "it leads by itself");
    lab.cli(leader, "node update --label-add still=here w2").ok()?;
    ensure!(term(lab)? == before, "the others were disturbed: {:?}, and not {before:?}", term(lab)?);
    let view = lab.view()?;
    ensure!(view.nodes.len() == 4 && view.ready() == 4, "{view}");
    Ok(())
}
