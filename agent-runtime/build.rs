//! Builds the supervisor, a small static program, so that the library can carry it as bytes.
//!
//! It has its own target directory, because the build that runs this script holds the lock of the shared one.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The non-PIE static program needs no relocations, so all supervisors share its pages.
const FLAGS: &[&str] = &["-Crelocation-model=static", "-Ctarget-feature=+crt-static"];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target = env::var("TARGET")?;
    for watched in [
        "build.rs",
        "supervisor/src",
        "supervisor/Cargo.toml",
        "protocol/src",
        "protocol/Cargo.toml",
        "../crates/crash-point",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(watched).display());
    }
    let workspace = here.parent().ok_or("the crate is not inside a workspace")?;
    let target_directory = out.join("supervisor-target");
    // What the outer build just resolved and fetched is enough; only an unusual cache needs the second attempt.
    build(workspace, &target_directory, &target, &["--offline", "--locked"])
        .or_else(|_| build(workspace, &target_directory, &target, &[]))?;
    let built = target_directory.join(&target).join("release/coracle-supervisor");
    fs::copy(&built, out.join("coracle-supervisor"))
        .map_err(|error| format!("copying {built:?}: {error}"))?;
    Ok(())
}

fn build(
    workspace: &Path,
    target_directory: &Path,
    target: &str,
    extra: &[&str],
) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_build) {
            cargo.env_remove(name);
        }
    }
    // Small also in development, but with what development has: checks, and the points at which tests kill it.
    let checked = env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let status = cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--package", "coracle-supervisor", "--target", target])
        .arg("--target-dir")
        .arg(target_directory)
        .args(extra)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "false")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", checked.to_string())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("building the supervisor ended with {status}").into()) }
}

/// Settings of the outer build (features, flags, clippy as compiler) that must not reach the inner one. Where the
/// registry and the toolchain are must.
fn belongs_to_outer_build(name: &str) -> bool {
    const KEEP: &[&str] =
        &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    const DROP: &[&str] = &[
        "CARGO",
        "RUSTC",
        "RUSTFLAGS",
        "RUSTDOC",
        "CLIPPY",
        "__CARGO",
        "MAKEFLAGS",
        "MFLAGS",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "TARGET",
        "HOST",
        "OUT_DIR",
        "NUM_JOBS",
    ];
    DROP.iter().any(|prefix| name.starts_with(prefix)) && !KEEP.iter().any(|prefix| name.starts_with(prefix))
}
