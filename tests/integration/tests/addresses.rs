//! Nodes whose addresses change come back by themselves: a worker, a follower, the leader; and managers that moved all at once, once
//! one of them is told where another is.

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1};

#[test]
fn nodes_that_move_are_found() {
    harness::bare("addresses", 3, 1, |lab| {
        form_without_addresses(lab)?;
        one_after_the_other(lab)?;
        all_managers_at_once(lab)
    });
}

/// As `Lab::form`, but nobody says which address to use: one that was given would stay.
fn form_without_addresses(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "swarm init").ok()?;
    for (role, names) in [("manager", vec![M2, M3]), ("worker", vec![W1])] {
        let token = lab.cli(M1, &format!("swarm join-token -q {role}")).ok()?;
        for name in names {
            lab.cli(name, &format!("swarm join --token {} {}:2377", token.trim(), M1.address())).ok()?;
        }
    }
    all_are_well(lab, "the cluster is formed")
}

fn all_are_well(lab: &Lab, what: &str) -> anyhow::Result<()> {
    lab.eventually_within(what, FORM_DEADLINE, |view| view.ready() == 4 && view.voters() == 3)?;
    Ok(())
}

/// The last part of a node's address and that of its next one.
fn moved(name: Name, times: u8) -> String {
    let (front, last) = name.address().rsplit_once('.').map_or((String::new(), 0), |(front, last)| {
        (front.to_owned(), last.parse::<u8>().unwrap_or_default())
    });
    format!("{front}.{}", last + times * 20)
}

fn readdress(lab: &Lab, name: Name, times: u8) -> anyhow::Result<()> {
    let line = format!("ip address flush dev eth0 && ip address add {}/24 dev eth0", moved(name, times));
    lab.get(name)?.host()?.run(["sh", "-c", &line])?;
    Ok(())
}

/// Waits until the managers know the node at its new address and it is well.
fn is_found(lab: &Lab, name: Name, times: u8) -> anyhow::Result<()> {
    let address = format!("{}:2377", moved(name, times));
    lab.eventually_within(&format!("{name} is found at {address}"), FORM_DEADLINE, |view| {
        let node = view.node(&name.to_string()).and_then(|item| item.node.clone()).unwrap_or_default();
        let written = node.manager.is_none_or(|manager| manager.address == address);
        let told = node.status.is_some_and(|status| status.address == address);
        written && told && view.ready() == 4 && view.voters() == 3 && view.leader().is_some()
    })?;
    Ok(())
}

fn one_after_the_other(lab: &Lab) -> anyhow::Result<()> {
    readdress(lab, W1, 1)?;
    is_found(lab, W1, 1)?;
    let leader = lab.leader()?;
    let follower = [M1, M2, M3].into_iter().find(|name| *name != leader).unwrap_or(M2);
    readdress(lab, follower, 1)?;
    is_found(lab, follower, 1)?;
    let leader = lab.leader()?;
    let times = if leader == follower { 2 } else { 1 };
    readdress(lab, leader, times)?;
    is_found(lab, leader, times)
}

fn all_managers_at_once(lab: &mut Lab) -> anyhow::Result<()> {
    for name in [M1, M2, M3] {
        lab.node(name).stop_daemon()?;
        readdress(lab, name, 4)?;
    }
    // Nobody has kept an address at which to find anybody: each is told of one.
    for (name, known) in [(M1, M2), (M2, M3), (M3, M1), (W1, M1)] {
        if name == W1 {
            lab.node(name).stop_daemon()?;
        }
        let manager = format!("{}:2377", moved(known, 4));
        lab.node(name).set_environment(&[("CORACLE_MANAGER", &manager)]);
        lab.start_daemon(name)?;
    }
    for name in [M1, M2, M3] {
        is_found(lab, name, 4)?;
    }
    Ok(())
}
