//! Roles change in any order, under load: five nodes are promoted and demoted at random while services are made; the quorum is never
//! given away, and in the end everybody is what it should be.

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, Name};
use coracle_integration::nemesis::Random;

const CHANGES: usize = 10;

#[test]
fn roles_change_in_any_order_under_load() {
    harness::test("roles", 3, 2, |lab| {
        let seed = std::env::var("CORACLE_ROLES_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        change_roles(lab, seed).map_err(|error| error.context(format!("CORACLE_ROLES_SEED={seed}")))
    });
}

fn change_roles(lab: &Lab, seed: u64) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let (mut made, mut refused) = (0, 0);
    for number in 0..CHANGES {
        let (speaker, managers) = managers_of(lab)?;
        let all = lab.names();
        let chosen = random.pick(&all).copied().unwrap_or(M1);
        let verb = if managers.contains(&chosen) { "demote" } else { "promote" };
        let changed = lab.cli(speaker, &format!("node {verb} {chosen}")).ok();
        if managers == [chosen] {
            anyhow::ensure!(changed.is_err(), "the last manager may not go");
        }
        if changed.is_err() {
            refused += 1;
        } else {
            made += 1;
        }
        if number % 3 == 0 {
            let create = format!("service create --detach --name s{number} --replicas 3 responder:1 sleep");
            lab.until("a service is made", |lab| {
                let (speaker, _) = managers_of(lab)?;
                Ok(lab.cli(speaker, &create).ok().is_ok()
                    || lab.view()?.tasks_of(&format!("s{number}")).count() > 0)
            })?;
        }
    }
    anyhow::ensure!(made > CHANGES / 3, "{made} changes were made, {refused} refused");
    settle(lab)
}

/// A manager that answers, and all nodes that are to be managers.
fn managers_of(lab: &Lab) -> anyhow::Result<(Name, Vec<Name>)> {
    let mut found = None;
    lab.until("a manager answers", |lab| {
        let Ok(view) = lab.view() else { return Ok(false) };
        let manager = coracle_proto::v1::NodeRole::Manager as i32;
        let wanted = |item: &&coracle_proto::v1::NodeListItem| {
            item.node.as_ref().and_then(|node| node.spec.as_ref()).is_some_and(|spec| spec.role == manager)
        };
        let names: anyhow::Result<Vec<Name>> = view
            .nodes
            .iter()
            .filter(wanted)
            .map(|item| lab.by_hostname(coracle_integration::view::hostname_of(item)))
            .collect();
        let leader = view.leader().and_then(|leader| lab.by_hostname(leader).ok());
        found = leader.zip(names.ok());
        Ok(found.is_some())
    })?;
    let (leader, mut names) = found.ok_or_else(|| anyhow::anyhow!("no manager answers"))?;
    names.sort();
    Ok((leader, names))
}

/// Everybody is what it should be, and every service runs.
fn settle(lab: &Lab) -> anyhow::Result<()> {
    let (_, wanted) = managers_of(lab)?;
    lab.eventually_within("all are ready, exactly the managers vote", FORM_DEADLINE, |view| {
        view.ready() == 5 && view.voters() == wanted.len() && view.leader().is_some()
    })?;
    for name in lab.names() {
        lab.until("its part is that of its role", |lab| {
            let raft = lab.info(name).map(|info| info.raft.is_some());
            Ok(raft.is_ok_and(|raft| raft == wanted.contains(&name)))
        })?;
    }
    for number in (0..CHANGES).step_by(3) {
        let name = format!("s{number}");
        lab.eventually(&format!("{name} runs"), |view| view.settled(&name, 3))?;
    }
    Ok(())
}
