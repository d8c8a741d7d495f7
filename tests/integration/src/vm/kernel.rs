//! The kernel of Debian's cloud images, unpacked from its package without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use crate::{harness, process};

/// Names a folder with an unpacked package (`boot/`, `lib/modules/`) to use instead.
const VARIABLE: &str = "CORACLE_VM_KERNEL";
/// Depends on the package of the release's current kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What is booted.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

impl Kernel {
    /// The one in the target folder, which is downloaded and unpacked if it is not there.
    ///
    /// # Errors
    /// When there is none and it cannot be downloaded.
    pub fn get() -> Result<Self> {
        if let Some(folder) = std::env::var_os(VARIABLE) {
            return Self::in_folder(Path::new(&folder))
                .with_context(|| format!("kernel named by {VARIABLE}"));
        }
        static ONE_DOWNLOAD: Mutex<()> = Mutex::new(());
        // What a test that panicked while it held this has left is looked at anew.
        let _guard = ONE_DOWNLOAD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = harness::target().join("vm/kernel");
        if !folder.is_dir() {
            download(&folder).with_context(|| {
                format!("download {PACKAGE} (try `apt-get update`, or unpack one and name its folder in {VARIABLE})")
            })?;
        }
        Self::in_folder(&folder)
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let image = only(&folder.join("boot"), |name| name.starts_with("vmlinuz-"))?;
        let modules = only(&folder.join("lib/modules"), |_| true)?;
        Ok(Self { image, modules })
    }
}

/// The only entry of a folder with such a name.
fn only(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (last, _) => {
            let count = found.len() + usize::from(last.is_some());
            bail!("{} should hold one kernel and holds {count}: delete the folder above it", folder.display())
        }
    }
}

/// Downloads and unpacks next to the folder, and renames: a folder that is there is whole.
fn download(folder: &Path) -> Result<()> {
    let work = folder.with_extension(format!("part-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let result = unpack(&work, folder);
    // Only an untidy target folder if it stays.
    let _ = fs::remove_dir_all(&work);
    result
}

fn unpack(work: &Path, folder: &Path) -> Result<()> {
    let package = current_package()?;
    // apt drops its rights for the download where it can; the folder is ours, so it is told not to try.
    let options = ["-q", "-o", "APT::Sandbox::User=root", "download", &package];
    process::output(Command::new("apt-get").args(options).current_dir(work))?;
    let archive = only(work, |name| name.ends_with(".deb"))?;
    let unpacked = work.join("unpacked");
    process::output(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
    match fs::rename(&unpacked, folder) {
        // Another test program was quicker.
        Err(_) if folder.is_dir() => Ok(()),
        result => result.with_context(|| format!("rename to {}", folder.display())),
    }
}

/// The package with the kernel itself, which the other one depends on.
fn current_package() -> Result<String> {
    let told = process::output(Command::new("apt-cache").args(["depends", "--important", PACKAGE]))?;
    let found =
        dependency(&told).with_context(|| format!("`apt-cache depends {PACKAGE}` names no kernel"))?;
    Ok(found.to_owned())
}

fn dependency(told: &str) -> Option<&str> {
    let names = told.lines().filter_map(|line| line.trim().strip_prefix("Depends:"));
    names.map(str::trim).find(|name| name.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_package_is_found() {
        let told = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(told), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }
}
