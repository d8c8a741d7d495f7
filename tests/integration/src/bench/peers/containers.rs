//! runc and crun: one container from a bundle, from the command to its end.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::machines::Machines;
use crate::bench::Options;
use crate::bench::group::{self, Group};
use crate::bench::report::Report;
use crate::bench::system::System;
use crate::name::W1;
use crate::{harness, image, process};

/// The figure.
const FIGURE: &str = "container from a bundle, run to its end";
/// Runs of each.
const RUNS: &str = "20";
/// Some runtimes refuse a machine that has version 2 of control groups mounted beside version 1; where that is so,
/// the runtimes do not see it.
const HIDE_UNIFIED: &str = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi";

/// Measures both.
///
/// # Errors
/// When a container does not run.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if !options.wants(Group::Bundle) {
        return Ok(());
    }
    report.note("Coracle: container from a bundle: skipped, the product has no command for it yet");
    report.note("runc and crun: what `runc spec` gives, with a network of its own and without seccomp");
    let machines = Machines::start(&harness::target().join("peer"), [W1].into_iter())?;
    let result = run_both(&machines, report);
    let ended = machines.end(result.is_err());
    result.and(ended)
}

fn run_both(machines: &Machines, report: &mut Report) -> Result<()> {
    machines.host(W1)?.run(["sh", "-c", HIDE_UNIFIED])?;
    let bundle = machines.folder(W1).join("bundle");
    make_bundle(&bundle, &format!("/{}/bundle", machines.cgroup_parent(W1)))?;
    for (system, program) in [(System::Runc, "runc"), (System::Crun, "crun")] {
        report.of(system);
        report.machine().version(program, Command::new(program).arg("--version"));
        group::watched(Group::Bundle, report, |report| {
            let own = std::env::current_exe().context("path of this program")?;
            let mut command = machines.host(W1)?.command(&own.to_string_lossy());
            command.args(["time", "--count", RUNS, "--", program, "--root"]);
            command
                .arg(machines.folder(W1).join(program))
                .arg("run")
                .arg("--bundle")
                .arg(&bundle)
                .arg("timed");
            for line in process::output(&mut command)?.lines() {
                report.add(FIGURE, "s", None, line.parse().with_context(|| format!("time {line:?}"))?);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A bundle whose program ends at once with success.
fn make_bundle(bundle: &Path, cgroup: &str) -> Result<()> {
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root)?;
    for folder in ["dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(image::responder_binary()?, root.join("responder")).context("copy the responder")?;
    process::output(Command::new("runc").arg("spec").arg("--bundle").arg(bundle))?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/responder", "exit", "0"]);
    config["linux"]["cgroupsPath"] = json!(cgroup);
    fs::write(&path, serde_json::to_vec_pretty(&config)?).with_context(|| format!("write {}", path.display()))
}
