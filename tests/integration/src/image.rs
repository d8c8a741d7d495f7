//! Images that the project makes itself: the responder alone in a root file system.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::archive::{Entry, Tar};

/// The name under which tests load it.
pub const RESPONDER: &str = "responder:1";

/// The responder's file, as `cargo xtask` builds it; `CORACLE_RESPONDER` names another.
///
/// # Errors
/// When it was not built.
pub fn responder_binary() -> Result<PathBuf> {
    crate::harness::built("CORACLE_RESPONDER", "coracle-responder")
}

/// A root file system with the program as `/responder`, users and a place for temporary files.
///
/// # Errors
/// When the program cannot be read.
pub fn root_file_system(program: &Path) -> Result<Vec<u8>> {
    Ok(Tar::new(root_entries(program)?).finish()?)
}

/// The entries of that archive, to which more can be added.
fn root_entries(program: &Path) -> Result<Vec<u8>> {
    let content = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let mut tar = Tar::new(Vec::new());
    for folder in ["dev/", "etc/", "proc/", "sys/", "home/"] {
        tar.add(folder, 0o755, Entry::Folder)?;
    }
    tar.add("tmp/", 0o1777, Entry::Folder)?;
    tar.add("etc/passwd", 0o644, Entry::File(b"root:x:0:0:root:/:/\nguest:x:1000:1000:guest:/home:/\n"))?;
    tar.add("etc/group", 0o644, Entry::File(b"root:x:0:\nguest:x:1000:\n"))?;
    tar.add("responder", 0o755, Entry::File(&content))?;
    Ok(tar.into_entries())
}

/// An archive in the form of `docker save` with one image of one layer.
///
/// # Errors
/// When the program cannot be read.
pub fn saved_archive(program: &Path, name: &str) -> Result<Vec<u8>> {
    saved(name, &root_file_system(program)?, &serde_json::json!({}))
}

/// As [`saved_archive`], and the image says how its containers are checked: `CMD` and words, every 200 milliseconds, two
/// failures are too many.
///
/// # Errors
/// When the program cannot be read.
pub fn checked_archive(program: &Path, name: &str, check: &[&str]) -> Result<Vec<u8>> {
    let test: Vec<&str> = ["CMD"].iter().chain(check).copied().collect();
    let check = serde_json::json!({
        "Test": test, "Interval": 200_000_000, "Timeout": 30_000_000_000_u64, "Retries": 2,
    });
    saved(name, &root_file_system(program)?, &serde_json::json!({ "Healthcheck": check }))
}

/// As [`saved_archive`], with a folder `/srv/data` (2770) that has a file `greeting`, and folders that the image wants kept
/// apart (`VOLUME`).
///
/// # Errors
/// When the program cannot be read.
pub fn data_archive(program: &Path, name: &str, volumes: &[&str]) -> Result<Vec<u8>> {
    let mut tar = Tar::new(root_entries(program)?);
    tar.add("srv/", 0o755, Entry::Folder)?;
    tar.add("srv/data/", 0o2770, Entry::Folder)?;
    tar.add("srv/data/greeting", 0o640, Entry::File(b"of the image"))?;
    let volumes: serde_json::Map<_, _> =
        volumes.iter().map(|path| ((*path).to_owned(), serde_json::json!({}))).collect();
    saved(name, &tar.finish()?, &serde_json::json!({ "Volumes": volumes }))
}

/// An image with a static busybox as `/bin/busybox` and `/bin/sh`, whose command is a script for the latter.
///
/// # Errors
/// When the program cannot be read.
pub fn shell_archive(busybox: &Path, name: &str) -> Result<Vec<u8>> {
    let content = fs::read(busybox).with_context(|| format!("read {}", busybox.display()))?;
    let mut tar = Tar::new(Vec::new());
    for folder in ["bin/", "dev/", "etc/", "proc/", "sys/"] {
        tar.add(folder, 0o755, Entry::Folder)?;
    }
    tar.add("bin/busybox", 0o755, Entry::File(&content))?;
    tar.add("bin/sh", 0o777, Entry::SymbolicLink("busybox"))?;
    let config = serde_json::json!({ "Entrypoint": ["/bin/sh", "-c"], "Env": ["PATH=/bin"] });
    saved(name, &tar.finish()?, &config)
}

/// With what else its configuration says.
fn saved(name: &str, layer: &[u8], more: &serde_json::Value) -> Result<Vec<u8>> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": { "Entrypoint": ["/responder"], "Env": ["PATH=/", "MADE_BY=lab"], "WorkingDir": "/", "ExposedPorts": { "8080/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(layer)))] },
        "history": [{ "created": "2025-01-01T00:00:00Z", "created_by": "responder" }],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config["config"][key] = value.clone();
    }
    let config = config.to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let manifest =
        serde_json::json!([{ "Config": config_name, "RepoTags": [name], "Layers": ["layer/layer.tar"] }]);
    let mut tar = Tar::new(Vec::new());
    tar.add(&config_name, 0o644, Entry::File(config.as_bytes()))?;
    tar.add("layer/", 0o755, Entry::Folder)?;
    tar.add("layer/layer.tar", 0o644, Entry::File(layer))?;
    tar.add("manifest.json", 0o644, Entry::File(manifest.to_string().as_bytes()))?;
    Ok(tar.finish()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
