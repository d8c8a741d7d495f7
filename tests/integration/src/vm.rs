//! Virtual machines: what other kernels, version 2 of cgroups and a loss of power do to the product.
//!
//! The machines that develop and test this may have any kernel, and cgroups of either version. A [`Machine`] boots the
//! kernel of Debian's cloud images under QEMU, emulated. Its root file system is in memory and made here: busybox, the
//! files that the test adds, and a shell script to run, its *scenario*. The scenario reports on the serial console, one
//! line for each thing that it looked at:
//!
//! ```text
//! VM-RESULT overlay ok
//! VM-RESULT memory_limit failed: memory.max is "max", not "33554432"
//! VM-DONE
//! ```
//!
//! [`Emulator`] reads them. Nothing in the guest outlives the emulator, which dies with the test. A [`disk`] outlives
//! both, so that a machine can be switched off at any moment and started again.
//!
//! Functions that scenarios may call are in `vm/guest/library.sh`.

pub mod console;
pub mod disk;
pub mod emulator;
pub mod initramfs;
pub mod kernel;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process;
use emulator::Emulator;
use initramfs::Initramfs;
use kernel::Kernel;

/// How long a scenario may take. Emulated, a machine is some thirty times slower than a real one.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// The shell and most of what scenarios call.
const BUSYBOX: &str = "/bin/busybox";
/// Modules of the kernel that are loaded before the scenario runs.
const MODULES: &[&str] = &["kernel/fs/overlayfs/overlay.ko", "kernel/fs/fuse/fuse.ko"];
const INIT: &str = include_str!("vm/guest/init.sh");
const BOOT: &str = include_str!("vm/guest/boot.sh");
const LIBRARY: &str = include_str!("vm/guest/library.sh");

/// A machine that is not running: what its file system and disk will hold.
#[derive(Debug)]
pub struct Machine {
    kernel: Kernel,
    folder: PathBuf,
    files: Initramfs,
    disk: Option<PathBuf>,
    parameters: String,
}

impl Machine {
    /// One that will run a scenario: a script for busybox's shell. Its files are kept in `folder`.
    ///
    /// # Errors
    /// When the kernel cannot be had, or a file cannot be read or written.
    pub fn new(folder: &Path, scenario: &str) -> Result<Self> {
        let kernel = Kernel::get()?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut files = Initramfs::new();
        files.add("init", 0o755, INIT.as_bytes())?;
        files.add("sbin/boot", 0o755, BOOT.as_bytes())?;
        files.add("lib/library.sh", 0o644, LIBRARY.as_bytes())?;
        files.add("scenario", 0o755, scenario.as_bytes())?;
        for module in MODULES {
            let path = kernel.modules.join(module);
            let content = fs::read(&path).with_context(|| format!("read the module {}", path.display()))?;
            files.add(&format!("lib/modules/{}", file_name(module)), 0o644, &content)?;
        }
        let machine =
            Self { kernel, folder: folder.to_owned(), files, disk: None, parameters: String::new() };
        machine.with_program(BUSYBOX, Path::new(BUSYBOX))
    }

    /// With a file at an absolute path.
    ///
    /// # Errors
    /// When the file system image cannot be written.
    pub fn with_file(mut self, path: &str, content: &[u8]) -> Result<Self> {
        self.files.add(path.trim_start_matches('/'), 0o644, content)?;
        Ok(self)
    }

    /// With a static program of this machine at an absolute path.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn with_program(mut self, path: &str, source: &Path) -> Result<Self> {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        self.files.add(path.trim_start_matches('/'), 0o755, &content)?;
        Ok(self)
    }

    /// With a disk that [`disk::create`] made, mounted at `/var/lib/coracle`.
    #[must_use]
    pub fn with_disk(self, image: &Path) -> Self {
        Self { disk: Some(image.to_owned()), ..self }
    }

    /// With further parameters of the kernel (kernel: Documentation/admin-guide/kernel-parameters.rst).
    #[must_use]
    pub fn with_kernel_parameters(self, parameters: &str) -> Self {
        Self { parameters: parameters.to_owned(), ..self }
    }

    /// Switches it on. `name` tells the files of several starts in one folder apart.
    ///
    /// # Errors
    /// When a file cannot be written or the emulator not started.
    pub fn start(self, name: &str) -> Result<Emulator> {
        let image = self.folder.join(format!("{name}.cpio"));
        fs::write(&image, self.files.finish()?).with_context(|| format!("write {}", image.display()))?;
        let log = self.folder.join(format!("{name}.console"));
        Emulator::start(&self.kernel.image, &self.parameters, &image, self.disk.as_deref(), &log)
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Why machines cannot run here; nothing when they can.
#[must_use]
pub fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("virtual machines are set up for x86-64 only".to_owned());
    }
    if !Path::new(BUSYBOX).is_file() {
        return Some(format!("virtual machines need a static {BUSYBOX} (Debian package busybox-static)"));
    }
    for (program, package) in [(emulator::PROGRAM, "qemu-system-x86"), ("setpriv", "util-linux")] {
        if !process::has_program(program) {
            return Some(format!("virtual machines need {program} (Debian package {package})"));
        }
    }
    let problem = Kernel::get().err()?;
    Some(format!("virtual machines need a kernel: {problem:#}"))
}
