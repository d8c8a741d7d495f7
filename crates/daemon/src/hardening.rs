//! What a daemon that holds keys does to itself before it holds any.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Why the process could not be hardened.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// PR_SET_DUMPABLE failed.
    #[error("cannot make the process undumpable (PR_SET_DUMPABLE)")]
    Dumpable(#[source] rustix::io::Errno),
    /// A limit could not be set.
    #[error("cannot set {limit} to {value}")]
    Limit {
        /// Which.
        limit: &'static str,
        /// The soft limit wanted.
        value: String,
        /// Why.
        #[source]
        source: rustix::io::Errno,
    },
}

/// What the process was given, for those who start programs: they must not inherit what the daemon made
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The file mode creation mask.
    pub umask: Mode,
    /// RLIMIT_NOFILE: open files.
    pub open_files: Rlimit,
    /// RLIMIT_CORE: bytes of a core dump.
    pub core: Rlimit,
}

/// Hardens the process: new files are the owner's alone (umask 077), no core dump and no ptrace by
/// others shows its memory (prctl(2), PR_SET_DUMPABLE), and it may open as many files as its hard limit
/// allows, since a daemon holds some for each connection and container. Call it before there are
/// other threads: the mask is the process's, and so is the window in which it is not set.
///
/// The hard limits stay, so that containers can be given what the daemon was given.
///
/// # Errors
/// If the kernel refuses; what was done before that stays done.
pub fn harden() -> Result<Inherited, HardeningError> {
    let inherited = Inherited {
        umask: umask(Mode::RWXG | Mode::RWXO),
        open_files: getrlimit(Resource::Nofile),
        core: getrlimit(Resource::Core),
    };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError::Dumpable)?;
    set_soft("RLIMIT_CORE", Resource::Core, inherited.core, Some(0))?;
    set_soft("RLIMIT_NOFILE", Resource::Nofile, inherited.open_files, inherited.open_files.maximum)?;
    Ok(inherited)
}

fn set_soft(
    limit: &'static str,
    resource: Resource,
    inherited: Rlimit,
    soft: Option<u64>,
) -> Result<(), HardeningError> {
    setrlimit(resource, Rlimit { current: soft, maximum: inherited.maximum }).map_err(|source| {
        let value = soft.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
        HardeningError::Limit { limit, value, source }
    })
}
