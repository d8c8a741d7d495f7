//! Where is looked, and what may be found there.

use std::path::Path;

use anyhow::{Context as _, Result};
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name, W1};
use coracle_integration::process;

use super::secrets::Secrets;

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// What commands say.
    Output,
    /// What daemons log.
    Log,
    /// Arguments of our processes.
    Arguments,
    /// The environment of the daemon and of supervisors.
    Environment,
    /// The environment of processes in containers: that is what it was given for.
    ContainerEnvironment,
    /// The node's own key ring (0600): who can read it can read everything sealed with it, which is what it is for.
    KeyRing,
    /// All other files of the daemon, those of containers too: sealed, when they hold secrets.
    Files,
}

/// Searches everything that the daemons have left.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn search(lab: &Lab, secrets: &Secrets) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in [M1, W1] {
        let node = lab.get(name)?;
        found.extend(secrets.found_in(&Place::Log, &format!("the log of {name}"), node.log().as_bytes()));
        for folder in [node.folders().data(), node.folders().run()] {
            files(&folder, &folder, secrets, &mut found)?;
        }
        processes(lab, name, secrets, &mut found)?;
    }
    Ok(found)
}

fn files(root: &Path, folder: &Path, secrets: &Secrets, found: &mut Vec<String>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        // What ends meanwhile, as files of containers do, holds nothing.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let below = path.strip_prefix(root)?;
        if metadata.is_dir() {
            // Unpacked images are what their makers put into them.
            if !below.starts_with("images") {
                files(root, &path, secrets, found)?;
            }
        } else if metadata.is_file()
            && let Ok(bytes) = std::fs::read(&path)
        {
            let place = if below == Path::new("node/keyring") { Place::KeyRing } else { Place::Files };
            found.extend(secrets.found_in(&place, &path.display().to_string(), &bytes));
        }
    }
    Ok(())
}

fn processes(lab: &Lab, name: Name, secrets: &Secrets, found: &mut Vec<String>) -> Result<()> {
    let node = lab.get(name)?;
    let binary = lab.binary().file_name().context("the product has a name")?.to_owned();
    for pid in process::descendants(node.host()?.init().pid) {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let ours =
            node.daemon().is_some_and(|daemon| daemon.pid == pid) || program.file_name() == Some(&binary);
        let environment = if ours { Place::Environment } else { Place::ContainerEnvironment };
        let what = |file: &str| format!("{file} of process {pid} ({}) on {name}", program.display());
        found.extend(secrets.found_in(&Place::Arguments, &what("cmdline"), &read("cmdline")));
        found.extend(secrets.found_in(&environment, &what("environ"), &read("environ")));
    }
    Ok(())
}
