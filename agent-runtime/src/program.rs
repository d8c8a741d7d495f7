//! The supervisor program, in memory.

use crate::error::{IoContext, RuntimeError};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// Built by the build script from the crate `coracle-supervisor`.
static SUPERVISOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coracle-supervisor"));

/// A sealed memory file. All supervisors share its pages, and no process, however it gets at it, can change what the
/// next supervisor executes (CVE-2019-5736).
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    pub(crate) fn load() -> Result<Self, RuntimeError> {
        let memory =
            memory_file("coracle-supervisor", MemfdFlags::EXEC | MemfdFlags::ALLOW_SEALING, SUPERVISOR)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&memory, seals).doing("sealing", Path::new("memfd:coracle-supervisor"))?;
        Ok(Self(memory.into()))
    }

    /// Where a process that we spawn finds it: the child still has the descriptor when it executes.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// A memory file with these contents, to be read from its beginning.
pub(crate) fn memory_file(name: &str, flags: MemfdFlags, contents: &[u8]) -> Result<File, RuntimeError> {
    let path = PathBuf::from(format!("memfd:{name}"));
    let memory = match memfd_create(name, flags | MemfdFlags::CLOEXEC) {
        // Kernels before 6.3 know neither flag; all memory files can be executed there.
        Err(Errno::INVAL) => {
            memfd_create(name, (flags - MemfdFlags::EXEC - MemfdFlags::NOEXEC_SEAL) | MemfdFlags::CLOEXEC)
        }
        result => result,
    };
    let mut file = File::from(memory.doing("creating", &path)?);
    file.write_all(contents).doing("writing", &path)?;
    file.rewind().doing("rewinding", &path)?;
    Ok(file)
}
