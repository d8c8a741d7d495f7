//! Whatever the cluster is in the middle of, another leader brings it to the end that it would have had.
//!
//! One cluster, one behaviour after the other ([`behaviours::ALL`]): it begins, is waited for until it is half done, the leader's
//! daemon is killed, and the end is waited for. All the while what must always hold is checked from outside.

#[path = "leader_killed_in_the_middle/behaviours.rs"]
mod behaviours;
#[path = "leader_killed_in_the_middle/seen.rs"]
mod seen;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, W1, W2};
use coracle_integration::view::View;
use coracle_integration::{harness, image};

use behaviours::{ALL, Behaviour};

#[test]
fn every_behaviour_comes_to_its_end() {
    harness::test("leader_killed", 3, 2, |lab| {
        // Their checks take a while, so that tasks start slowly enough to be met in the middle.
        load(lab, "slow:1", &["/responder", "exit", "0", "0.7"])?;
        load(lab, "sick:1", &["/responder", "exit", "7", "0.7"])?;
        for name in ["first", "second"] {
            std::fs::write(lab.folder().join(name), name)?;
        }
        let asked = std::env::var("CORACLE_BEHAVIOUR").unwrap_or_default();
        for behaviour in ALL.iter().filter(|behaviour| behaviour.what.contains(&asked)) {
            go_through(lab, behaviour).with_context(|| behaviour.what)?;
        }
        nothing_is_left(lab)
    });
}

fn load(lab: &Lab, name: &str, check: &[&str]) -> Result<()> {
    let path = lab.folder().join("checked.tar");
    std::fs::write(&path, image::checked_archive(&image::responder_binary()?, name, check)?)?;
    lab.cli(M1, &format!("image load -i {}", path.display())).ok()?;
    Ok(())
}

/// Types lines, in which `FOLDER` is the lab's folder, on a manager that is there.
fn typed(lab: &Lab, lines: &[&str]) -> Result<()> {
    for line in lines {
        lab.cli(M1, &line.replace("FOLDER", &lab.folder().display().to_string())).ok()?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how long each took")]
fn go_through(lab: &mut Lab, behaviour: &Behaviour) -> Result<()> {
    let start = Instant::now();
    typed(lab, behaviour.prepare)?;
    let before = lab.eventually_within("whole and prepared", FORM_DEADLINE, |view| {
        view.voters() == 3 && view.ready() == 5 && view.settled(behaviour.service, behaviour.runs)
    })?;
    typed(lab, behaviour.begin)?;
    watch(lab, "the middle", behaviour, &before, behaviour.middle)?;
    let leader = lab.leader()?;
    lab.node(leader).kill_daemon()?;
    lab.eventually("another leads", |view| view.leader().is_some_and(|name| name != leader.to_string()))?;
    lab.start_daemon(leader)?;
    lab.wait_answers(leader)?;
    let end = watch(lab, "the end", behaviour, &before, behaviour.end)?;
    (behaviour.after)(lab, &before, &end)?;
    typed(lab, behaviour.clean)?;
    println!("{}: {:.1?}", behaviour.what, start.elapsed());
    Ok(())
}

/// Waits, and checks at every look what must always hold.
fn watch(
    lab: &Lab,
    what: &str,
    behaviour: &Behaviour,
    before: &View,
    reached: fn(&View, &View) -> bool,
) -> Result<View> {
    let mut broken = None;
    let view = lab.eventually_within(what, FORM_DEADLINE, |view| {
        broken = (behaviour.always)(before, view);
        broken.is_some() || reached(before, view)
    })?;
    match broken {
        Some(broken) => bail!("before {what}: {broken}:\n{view}"),
        None => Ok(view),
    }
}

fn nothing_is_left(lab: &Lab) -> Result<()> {
    lab.eventually("no task is left", |view| view.services.is_empty() && view.tasks.is_empty())?;
    lab.until("no container is left", |lab| {
        let left = [W1, W2].into_iter().map(|name| Ok(lab.get(name)?.other_processes()?.len()));
        Ok(left.sum::<Result<usize>>()? == 0)
    })?;
    // A failure that comes late would have been seen by now.
    lab.stays("nothing comes back", Duration::from_millis(500), |view| view.tasks.is_empty())?;
    ensure!(lab.cli(M1, "secret ls --quiet").ok()?.is_empty(), "a secret is left");
    Ok(())
}
