//! The agent's journal is damaged while its daemon is down, in whatever way: nothing that runs is disturbed, and nothing
//! that was acknowledged is lost.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use coracle_integration::lab::{DEADLINE, Lab};
use coracle_integration::name::{M1, Name, W1};

use crate::drive::{add_host, recover};
use crate::invariants::{Running, nothing_left_over, running_on, undisturbed};
use crate::work::Work;

/// Something done to the journal's folder.
type Damage = fn(&Path) -> Result<()>;

const DAMAGES: &[(&str, Damage)] = &[
    ("removed", |journal| Ok(fs::remove_dir_all(journal)?)),
    ("cut in half", |journal| every_file(journal, |bytes| bytes.truncate(bytes.len() / 2))),
    ("bits flipped", |journal| {
        every_file(journal, |bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10))
    }),
    ("garbage", |journal| every_file(journal, |bytes| bytes.fill(0xa5))),
    ("emptied", |journal| every_file(journal, Vec::clear)),
    ("unreadable", |journal| {
        fs::remove_file(journal.join("db"))?;
        Ok(fs::create_dir(journal.join("db"))?)
    }),
    ("a file", |journal| {
        fs::remove_dir_all(journal)?;
        Ok(fs::write(journal, "no folder")?)
    }),
];

fn every_file(folder: &Path, change: impl Fn(&mut Vec<u8>) + Copy) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            every_file(&path, change)?;
        } else {
            let mut bytes = fs::read(&path)?;
            change(&mut bytes);
            fs::write(&path, bytes)?;
        }
    }
    Ok(())
}

fn agent(lab: &Lab, name: Name) -> Result<PathBuf> {
    Ok(lab.get(name)?.folders().data().join("agent"))
}

/// A manager that is alone, whose log was purged up to a snapshot, and a worker.
pub(crate) fn all(lab: &mut Lab) -> Result<()> {
    for name in [M1, W1] {
        add_host(lab, name)?;
        lab.start_daemon(name)?;
    }
    lab.form()?;
    lab.load_responder(M1)?;
    lab.cli(M1, "service create --detach --name base --mode global responder:1").ok()?;
    lab.eventually("both tasks run", |view| view.settled("base", 2))?;
    let mut work = Work::default();
    for _ in 0..80 {
        work.write_label(lab)?;
    }
    let snapshots = lab.get(M1)?.folders().data().join("raft/snapshots");
    lab.until("there is a snapshot", |_| Ok(fs::read_dir(&snapshots)?.count() > 0))?;
    let view = lab.view_from(M1)?;
    let base = [running_on(lab, M1, &view)?, running_on(lab, W1, &view)?];
    for (number, (what, damage)) in DAMAGES.iter().enumerate() {
        // Sometimes the manager is not there when the worker comes up.
        once(lab, *damage, &base, &mut work, number % 2 == 0).with_context(|| format!("journal {what}"))?;
    }
    Ok(())
}

fn once(
    lab: &mut Lab,
    damage: Damage,
    base: &[Running; 2],
    work: &mut Work,
    manager_first: bool,
) -> Result<()> {
    work.write_label(lab)?;
    for name in [W1, M1] {
        lab.node(name).stop_daemon()?;
        damage(&agent(lab, name)?.join("journal"))?;
    }
    for name in if manager_first { [M1, W1] } else { [W1, M1] } {
        recover(lab, name)?;
        for process in base.iter().flat_map(Running::values) {
            ensure!(process.is_alive(), "a container was ended");
        }
    }
    let view = lab.eventually_from(Some(M1), "all is as before", DEADLINE, |view| {
        view.ready() == 2 && view.settled("base", 2)
    })?;
    work.check(lab, &view)?;
    for (name, before) in [M1, W1].into_iter().zip(base) {
        undisturbed(before, &running_on(lab, name, &view)?)?;
        nothing_left_over(lab, name)?;
        let copies = fs::read_dir(agent(lab, name)?)?.filter_map(Result::ok);
        let copies: Vec<_> = copies.map(|entry| entry.file_name()).filter(|name| name != "logs").collect();
        ensure!(copies.len() <= 2, "more than the journal and one old copy: {copies:?}");
        let log = lab.get(name)?.log();
        let life = log.rsplit("lab: daemon starts").next().unwrap_or_default();
        ensure!(life.matches("coracle_worker::journal").count() <= 1, "told more than once:\n{life}");
    }
    // And the agents still do what they are told.
    work.come_and_go(lab, W1, &|_| false)
}
