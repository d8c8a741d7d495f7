//! `cargo xtask bench`: builds the product with the release profile and measures it, and peers beside it.

mod peers;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{packages, privilege, step};

/// Names the product's file; when it is set, nothing of the product is built.
const PRODUCT: &str = "CORACLE_BIN";

/// What is measured and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    repetitions: u32,
    /// How often our leader is killed, for the worst case.
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    leader_kills: u32,
    /// Only these groups, with commas: memory, scale, update, drain, load, failures, single,
    /// schedule, plan, bundle.
    #[arg(long, value_name = "GROUPS")]
    only: Option<String>,
    /// Also peers on the same machine: swarm, etcd, runtimes, with commas; all of them when none is named.
    #[arg(long, value_name = "PEERS", num_args = 0..=1, require_equals = true, default_missing_value = "swarm,etcd,runtimes")]
    peers: Option<String>,
    /// Only the peers.
    #[arg(long, requires = "peers")]
    without_ours: bool,
    /// Where the samples go, as JSON; a table goes beside it. Default: bench.json in the target folder.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Builds, then measures as root.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    packages::install_missing(packages::LAB)?;
    if let Some(peers) = &arguments.peers {
        peers::install(peers)?;
    }
    let given = std::env::var_os(PRODUCT).is_some();
    let mut command = if given { with_given_product()? } else { with_release()? };
    command.args(["--repetitions", &arguments.repetitions.to_string()]);
    command.args(["--leader-kills", &arguments.leader_kills.to_string()]);
    command.args(["--profile", if given { "unknown: the file was given" } else { "release" }]);
    command.args(arguments.only.iter().flat_map(|groups| ["--only", groups]));
    command.args(arguments.peers.iter().map(|peers| format!("--peers={peers}")));
    command.args(arguments.without_ours.then_some("--without-ours"));
    if let Some(output) = &arguments.output {
        command.arg("--output").arg(std::path::absolute(output)?);
    }
    step::run(&mut command)
}

/// Builds everything with the release profile; gives the program that measures.
fn with_release() -> Result<Command> {
    step::named("build with the release profile", || {
        let packages = ["coracle", "coracle-responder", "coracle-integration"];
        let packages = packages.iter().flat_map(|name| ["--package", name]);
        let programs = ["coracle", "coracle-responder", "coracle-bench"];
        let programs = programs.iter().flat_map(|name| ["--bin", name]);
        step::run(&mut step::cargo(["build", "--release"].into_iter().chain(packages).chain(programs)))?;
        let examples =
            ["--package", "coracle-manager-core", "--example", "schedule_bench", "--example", "plan_bench"];
        step::run(&mut step::cargo(["build", "--release"].into_iter().chain(examples)))
    })?;
    let folder = target().join("release");
    let mut command = privilege::command(&folder.join("coracle-bench").to_string_lossy(), &[]);
    command.env(PRODUCT, folder.join("coracle"));
    command.env("CORACLE_RESPONDER", folder.join("coracle-responder"));
    command.env("CORACLE_SCHEDULE_BENCH", folder.join("examples/schedule_bench"));
    command.env("CORACLE_PLAN_BENCH", folder.join("examples/plan_bench"));
    Ok(command)
}

/// Builds what measures with the dev profile, for work on the measurement itself.
fn with_given_product() -> Result<Command> {
    let packages = ["build", "--package", "coracle-responder", "--package", "coracle-integration"];
    let programs = ["--bin", "coracle-responder", "--bin", "coracle-bench"];
    step::run(&mut step::cargo(packages.into_iter().chain(programs)))?;
    Ok(privilege::command(&target().join("debug/coracle-bench").to_string_lossy(), &[]))
}

/// The folder of what is built for this machine.
fn target() -> PathBuf {
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| step::root().join("target"), PathBuf::from);
    folder.join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
}
