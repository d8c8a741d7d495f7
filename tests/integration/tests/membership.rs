//! Roles change, nodes go: without losing the quorum, and rights end at once.

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1};

#[test]
fn roles_change_and_rights_follow() {
    harness::test("membership", 3, 1, |lab| {
        operator_from_afar(lab)?;
        promote_and_demote(lab)?;
        quorum_is_kept(lab)?;
        removed_nodes_are_strangers(lab)?;
        a_manager_leaves_with_its_vote(lab)
    });
}

fn operator_from_afar(lab: &Lab) -> anyhow::Result<()> {
    let folder = lab.folder().join("operator");
    let folder = folder.display();
    let host = format!("--host {}:2377", M2.address());
    lab.cli(M1, &format!("swarm operator-cert --name alice -o {folder}")).ok()?;
    let listed = lab.cli(W1, &format!("{host} --cert-dir {folder} node ls -q")).ok()?;
    anyhow::ensure!(listed.lines().count() == 4, "{listed}");
    lab.cli(W1, &format!("{host} --cert-dir /not/there node ls")).refused(&["/not/there"])?;
    // What only the node itself may be asked is not for operators from afar.
    lab.cli(W1, &format!("{host} --cert-dir {folder} swarm leave --force")).refused(&[])?;
    anyhow::ensure!(lab.view()?.voters() == 3);
    Ok(())
}

fn promote_and_demote(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(W1, "node ls").refused(&["manager"])?;
    lab.cli(M1, "node promote w1").ok()?;
    lab.eventually_within("four vote", FORM_DEADLINE, |view| view.voters() == 4)?;
    lab.until("the new manager answers for the cluster", |lab| Ok(lab.view_from(W1).is_ok()))?;
    let leader = lab.leader()?;
    let other = [M1, M2, M3].into_iter().find(|name| *name != leader).unwrap_or(M1);
    let held = lab.api(leader)?.holding();
    held.view()?;
    lab.cli(other, &format!("node demote {leader}")).ok()?;
    lab.eventually_within("another leads, three vote", FORM_DEADLINE, |view| {
        view.voters() == 3
            && view.leader().is_some_and(|name| name != leader.to_string())
            && view.ready() == 4
    })?;
    lab.until("the demoted one no longer speaks for operators", |lab| {
        Ok(lab.cli(leader, "node ls").ok().is_err())
    })?;
    anyhow::ensure!(held.view().is_err(), "a connection from before the demotion keeps no rights");
    lab.cli(W1, &format!("node promote {leader}")).ok()?;
    lab.eventually_within("four vote again", FORM_DEADLINE, |view| view.voters() == 4)?;
    lab.cli(M1, "node demote w1").ok()?;
    lab.eventually_within("three vote again", FORM_DEADLINE, |view| view.voters() == 3 && view.ready() == 4)?;
    Ok(())
}

fn quorum_is_kept(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let others: Vec<Name> = [M1, M2, M3].into_iter().filter(|name| *name != leader).collect();
    let (down, up) = (others[0], others[1]);
    lab.node(down).kill_daemon()?;
    lab.eventually("it is down", |view| view.is_down(&down.to_string()))?;
    lab.cli(leader, &format!("node demote {up}")).refused(&["quorum", "2"])?;
    // The one that is down may go: that helps.
    lab.cli(leader, &format!("node demote {down}")).ok()?;
    lab.eventually("two vote", |view| view.voters() == 2)?;
    lab.start_daemon(down)?;
    lab.eventually_within("it returns as a worker", FORM_DEADLINE, |view| {
        view.ready() == 4 && view.voters() == 2
    })?;
    lab.cli(leader, &format!("node promote {down}")).ok()?;
    lab.eventually_within("three vote", FORM_DEADLINE, |view| view.voters() == 3)?;
    Ok(())
}

fn removed_nodes_are_strangers(lab: &mut Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name app --constraint node.hostname==w1 responder:1 sleep").ok()?;
    lab.cli(M1, "node rm w1").refused(&["w1", "down"])?;
    lab.cli(M1, "node rm --force w1").ok()?;
    lab.eventually("it is gone, and its task with it", |view| {
        view.node("w1").is_none() && view.running("app") == 0
    })?;
    lab.until("its rights have ended", |lab| {
        Ok(lab.info(W1).map_or(true, |info| info.session_with.is_empty()))
    })?;
    lab.cli(M1, "service rm app").ok()?;
    Ok(())
}

/// Its tasks take longer to stop than a manager waits before it makes sure of its place again.
fn a_manager_leaves_with_its_vote(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let leaving = [M2, M3].into_iter().find(|name| *name != leader).unwrap_or(M3);
    lab.cli(
        leader,
        &format!(
            "service create --name deaf --stop-grace-period 12s --constraint node.hostname=={leaving} responder:1 ignore-term"
        ),
    )
    .ok()?;
    lab.cli(leaving, "swarm leave --force").ok()?;
    // By Raft itself: nobody is told of a voter that died.
    let voters = lab.info(leader)?.raft.map(|raft| raft.voters);
    anyhow::ensure!(voters == Some(2), "{voters:?} vote after {leaving} has left");
    lab.cli(leader, "service rm deaf").ok()?;
    Ok(())
}
