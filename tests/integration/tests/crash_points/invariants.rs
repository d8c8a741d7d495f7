//! What must be so after every crash and restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use coracle_integration::cgroup;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name};
use coracle_integration::process::{self, Process};
use coracle_integration::view::View;

/// Processes of running tasks, by task.
pub(crate) type Running = BTreeMap<String, Process>;

/// The processes of all tasks of a node that run, as the machine sees them.
pub(crate) fn running_on(lab: &Lab, name: Name, view: &View) -> Result<Running> {
    let on = view.tasks.iter().filter(|task| task.is_running() && task.node == name.to_string());
    on.map(|task| {
        let process = lab.get(name)?.process(task.pid)?;
        Ok((task.id.clone(), process.with_context(|| format!("task {} does not run:\n{view}", task.id))?))
    })
    .collect()
}

/// Containers that had nothing to do with what was done run on as the same processes.
pub(crate) fn undisturbed(before: &Running, now: &Running) -> Result<()> {
    for (task, process) in before {
        ensure!(process.is_alive(), "the container of task {task} was ended");
        ensure!(now.get(task) == Some(process), "task {task} has another process than before: {now:?}");
    }
    Ok(())
}

/// What a node has of containers: exactly one of everything for each running task.
pub(crate) fn nothing_left_over(lab: &Lab, name: Name) -> Result<()> {
    let mut last = String::new();
    let exact = process::wait(coracle_integration::lab::DEADLINE, || match leftovers(lab, name) {
        Ok(()) => Some(()),
        Err(error) => {
            last = format!("{error:#}");
            None
        }
    });
    match exact {
        Some(()) => Ok(()),
        None => bail!("{last}\n{}", lab.log_tails(20)),
    }
}

fn leftovers(lab: &Lab, name: Name) -> Result<()> {
    let view = lab.view_from(M1)?;
    let node = lab.get(name)?;
    let running: BTreeSet<String> = running_on(lab, name, &view)?.into_keys().collect();
    for folder in [node.folders().data().join("containers"), node.folders().run().join("containers")] {
        let there = names(&folder);
        ensure!(there == running, "{}: {there:?}, and tasks run: {running:?}\n{view}", folder.display());
    }
    volumes_are_whole(&node.folders().data().join("volumes"))?;
    // One more for the supervisors themselves.
    let cgroups = cgroup::containers(node.cgroup_parent());
    ensure!(cgroups <= running.len() + 1, "{cgroups} cgroups for {} containers", running.len());
    let supervisors = supervisors(lab, name)?;
    ensure!(supervisors == running.len(), "{supervisors} supervisors for {} containers", running.len());
    let mounts = node.host()?.run(["cat", "/proc/self/mountinfo"])?;
    let own = node.folders().data().display().to_string();
    let left = mounts.lines().find(|line| line.contains(&own));
    ensure!(left.is_none(), "a mount is left: {left:?}");
    Ok(())
}

/// Each volume has its record and what the image has at its target, none is half made, and those of containers that are gone
/// are gone.
fn volumes_are_whole(folder: &Path) -> Result<()> {
    let left = names(&folder.join(".tmp"));
    ensure!(left.is_empty(), "left of volumes: {left:?}");
    let old = names(folder).into_iter().find(|name| name.starts_with(".old"));
    ensure!(old.is_none(), "left of volumes: {old:?}");
    for name in names(folder).iter().filter(|name| !name.starts_with('.')) {
        let record = fs::read_to_string(folder.join(name).join("volume.json"))
            .with_context(|| format!("the record of volume {name}"))?;
        let data = fs::metadata(folder.join(name).join("_data"))?;
        // The mode that the image has for /tmp shows that it was filled.
        let is_filled = data.permissions().mode() & 0o7777 == 0o1777;
        ensure!(is_filled || record.contains("owner"), "volume {name} is not filled: {data:?}");
    }
    Ok(())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn supervisors(lab: &Lab, name: Name) -> Result<usize> {
    let all = lab.get(name)?.other_processes()?;
    let is_supervisor = |process: &&Process| {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        name.trim() == "coracle-super"
    };
    Ok(all.iter().filter(is_supervisor).count())
}

/// Every blob of the image store is what its name says, and nothing half-written is left.
pub(crate) fn images_are_whole(lab: &Lab, name: Name) -> Result<()> {
    let images = lab.get(name)?.folders().data().join("images");
    let blobs = images.join("blobs/sha256");
    let host = lab.get(name)?.host()?;
    let script =
        "cd \"$1\" && for blob in *; do echo \"$blob  $blob\"; done | sha256sum --check --quiet --strict";
    process::output(host.command("sh").args(["-c", script, "check"]).arg(&blobs)).context("image store")?;
    let left = names(&images.join("tmp"));
    ensure!(left.is_empty(), "left in the image store: {left:?}");
    Ok(())
}
