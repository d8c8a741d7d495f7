//! Programs that building and testing need beside Rust, installed where they are missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{privilege, step};

/// A program and the Debian package that has it.
pub(crate) type Needed = (&'static str, &'static str);

/// What a lab needs.
pub(crate) const LAB: &[Needed] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ps", "procps"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("gcc", "gcc"),
];

/// What all tests need.
pub(crate) const ALL: &[Needed] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ps", "procps"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("gcc", "gcc"),
    ("busybox", "busybox-static"),
    ("tar", "tar"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("secilc", "secilc"),
];

/// Installs what is missing with `apt-get`; on other systems it says what to install.
pub(crate) fn install_missing(needed: &[Needed]) -> Result<()> {
    let mut packages: Vec<&str> =
        needed.iter().filter(|(program, _)| !is_there(program)).map(|(_, name)| *name).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_there("apt-get") {
        bail!("install what these Debian packages contain, then try again: {}", packages.join(" "));
    }
    step::named(&format!("install {}", packages.join(" ")), || {
        step::run(&mut privilege::command("apt-get", &["update", "--quiet"]))?;
        let mut install =
            privilege::command("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
        step::run(install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive"))
    })
}

/// Whether nothing of it is missing.
pub(crate) fn has_all(needed: &[Needed]) -> bool {
    needed.iter().all(|(program, _)| is_there(program))
}

/// Whether a program is on the search path or where administration programs are.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    folders.chain(["/usr/sbin".into(), "/sbin".into()]).any(|folder| folder.join(program).is_file())
}

/// The static busybox is of the package that says so: a dynamic one does not run in an empty root.
pub(crate) fn check_busybox() -> Result<()> {
    let path = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    let Some(path) = path else { bail!("busybox is missing: install busybox-static") };
    let linked = Command::new("ldd").arg(path).output();
    if linked.is_ok_and(|output| output.status.success()) {
        bail!("{path} is not static: install busybox-static");
    }
    Ok(())
}
