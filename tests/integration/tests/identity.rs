//! Who belongs to the cluster: tokens come in by other ways than arguments, and a node that was removed stops what it runs, however
//! young its certificate is.

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, Name, W1};

#[test]
fn members_come_and_go() {
    harness::test("identity", 3, 1, |lab| {
        a_removed_node_stops_its_tasks(lab)?;
        tokens_come_from_files(lab)?;
        a_foreign_address_is_warned_of(lab)
    });
}

fn a_removed_node_stops_its_tasks(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name app --replicas 2 --constraint node.hostname==w1 responder:1 sleep")
        .ok()?;
    lab.eventually("it runs", |view| view.running("app") == 2)?;
    anyhow::ensure!(!lab.get(W1)?.other_processes()?.is_empty(), "its containers are seen from outside");
    lab.cli(M1, "node rm --force w1").ok()?;
    lab.until("the node has stopped what it ran", |lab| Ok(lab.get(W1)?.other_processes()?.is_empty()))?;
    lab.cli(M1, "service rm app").ok()?;
    Ok(())
}

fn tokens_come_from_files(lab: &Lab) -> anyhow::Result<()> {
    let token = lab.cli(M1, "swarm join-token -q worker").ok()?;
    let file = lab.folder().join("token");
    std::fs::write(&file, format!("{token}\n"))?;
    let manager = format!("{}:2377", M1.address());
    let join_again = |line: &str| -> anyhow::Result<()> {
        leave(lab)?;
        let socket = lab.get(W1)?.folders().socket();
        let binary = lab.binary().display();
        let line = format!("{binary} --socket {} swarm join {line} {manager}", socket.display());
        lab.get(W1)?.host()?.run(["sh", "-c", &line])?;
        lab.eventually_within("it is a node again", FORM_DEADLINE, |view| view.is_ready("w1"))?;
        Ok(())
    };
    join_again(&format!("--token-file {}", file.display()))?;
    remove(lab)?;
    join_again(&format!("--token - <{}", file.display()))?;
    remove(lab)
}

fn leave(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(W1, "swarm leave").ok()?;
    Ok(())
}

fn remove(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "node rm --force w1").ok()?;
    lab.eventually("it is gone", |view| view.node("w1").is_none())?;
    Ok(())
}

/// Made last: the worker begins a swarm of its own.
fn a_foreign_address_is_warned_of(lab: &Lab) -> anyhow::Result<()> {
    leave(lab)?;
    let nobody = Name::Worker(99).address();
    let said = lab.cli(W1, &format!("swarm init --advertise-addr {nobody}")).ok_both()?;
    anyhow::ensure!(said.contains("warning: advertise-addr") && said.contains(&nobody), "{said}");
    lab.cli(W1, "swarm leave --force").ok()?;
    let said = lab.cli(W1, &format!("swarm init --advertise-addr {}", W1.address())).ok_both()?;
    anyhow::ensure!(!said.contains("warning"), "{said}");
    Ok(())
}
