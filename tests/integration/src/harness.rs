//! What stands around every test with a lab: privileges, the product's file, artifacts, cleaning up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::lab::{Lab, Plan};
use crate::name::{M1, Name};
use crate::{oracle, process};

/// Runs a test in a formed cluster of this size, with the responder's image loaded on m1.
///
/// # Panics
/// When the test fails; its folder is then kept.
pub fn test(name: &str, managers: u8, workers: u8, check: impl FnOnce(&mut Lab) -> Result<()>) {
    bare(name, managers, workers, |lab| {
        lab.form()?;
        lab.load_responder(M1)?;
        check(lab)
    });
}

/// Runs a test with idle daemons that belong to no swarm yet.
///
/// # Panics
/// When the test fails; its folder is then kept.
#[expect(clippy::print_stdout, reason = "the test driver shows it with the failure")]
pub fn bare(name: &str, managers: u8, workers: u8, check: impl FnOnce(&mut Lab) -> Result<()>) {
    if let Some(reason) = missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = folder().join(name);
    let result = with_lab(&folder, managers, workers, check);
    match result {
        Ok(()) => {
            // A leftover folder is only untidy.
            let _ = std::fs::remove_dir_all(&folder);
        }
        Err(error) => panic!("{name}: {error:#}\n(logs and more: {})", folder.display()),
    }
}

fn with_lab(
    folder: &Path,
    managers: u8,
    workers: u8,
    check: impl FnOnce(&mut Lab) -> Result<()>,
) -> Result<()> {
    let binary = built("CORACLE_BIN", "coracle")?;
    let mut lab = Lab::new(Plan::bound(folder, &binary))?;
    let run = |lab: &mut Lab| {
        for name in Name::all(managers, workers) {
            lab.add(name)?;
        }
        check(lab)?;
        oracle::check_all(lab)
    };
    // A failed assertion inside must not skip the artifacts.
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut lab))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow::anyhow!("{}", text.unwrap_or("panicked")))
    });
    if result.is_err() {
        lab.keep_artifacts();
    }
    let ended = lab.end();
    result.and(ended)
}

/// Why labs cannot run here; nothing when they can.
#[must_use]
pub fn missing() -> Option<String> {
    if !process::is_root() {
        return Some("needs root".to_owned());
    }
    let programs = ["ip", "nft", "unshare", "nsenter", "setpriv", "timeout", "setsid"];
    let missing = programs.into_iter().find(|name| !process::has_program(name))?;
    Some(format!("needs the program {missing}"))
}

/// Where labs keep their files: `CORACLE_LAB_DIR`, or `labs` in the target folder.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("CORACLE_LAB_DIR").map_or_else(|| target().join("labs"), PathBuf::from)
}

/// The target folder of the workspace.
#[must_use]
pub fn target() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from);
    folder.canonicalize().unwrap_or(folder)
}

/// The folder of the dev profile's files.
fn profile_folder() -> PathBuf {
    target().join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("debug")
}

/// A program that `cargo xtask` builds; the variable names another file.
///
/// # Errors
/// When there is none.
pub fn built(variable: &str, name: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| profile_folder().join(name), PathBuf::from);
    if !path.is_file() {
        bail!("{} is not there: build it with `cargo build --package {name}`", path.display());
    }
    path.canonicalize().with_context(|| format!("path of {name}"))
}
