//! What security modules do with us is asked for in our own procfs (proc_pid_attr(5)).

use crate::error::{CallError, InCall};
use crate::resolve;
use coracle_runtime_protocol::FailureKind;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

/// The root of a procfs that was verified to be one.
pub(crate) enum OwnProc<'a> {
    /// We made it.
    Made(BorrowedFd<'a>),
    /// It is the container's.
    Entered(OwnedFd),
}

impl OwnProc<'_> {
    fn root(&self) -> BorrowedFd<'_> {
        match self {
            Self::Made(proc) => *proc,
            Self::Entered(proc) => proc.as_fd(),
        }
    }

    /// Opens the first of our attributes that there is; nothing is mounted over it, and no link leads away.
    fn open(&self, names: &[&str]) -> Result<OwnedFd, CallError> {
        let own = rustix::process::getpid().as_raw_nonzero();
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let open = |name: &str| {
            resolve::open_in_root(self.root(), &format!("{own}/attr/{name}"), OFlags::RDWR, flags)
        };
        let mut opened = Err(Errno::NOENT);
        for name in names {
            opened = opened.or_else(|_| open(name));
        }
        opened.in_call(|| format!("openat2(\"{own}/attr/{}\")", names.last().unwrap_or(&"")))
    }

    /// Asks for an AppArmor profile, and makes sure that the kernel heard it (CVE-2019-16884).
    pub(crate) fn apparmor(&self, profile: &str) -> Result<(), CallError> {
        let file = self.open(&["apparmor/exec", "exec"])?;
        let wish = format!("exec {profile}");
        rustix::io::write(&file, wish.as_bytes()).in_call(|| format!("write(\"attr/exec\", {wish:?})"))?;
        match heard(file.as_fd(), profile.len() + 64)?.starts_with(profile.as_bytes()) {
            true => Ok(()),
            false => Err(CallError::refused(
                FailureKind::Unsupported,
                format!("the kernel did not take the AppArmor profile {profile:?}"),
            )),
        }
    }

    /// Asks for an SELinux label of the program that is executed next. The transition itself is judged then.
    ///
    /// The kernel forgets the death signal with it, whatever was asked for: a program with a label does not end with its
    /// supervisor, but when the daemon sees that one gone.
    pub(crate) fn process_label(&self, label: &str) -> Result<(), CallError> {
        let file = self.open(&["exec"])?;
        ask(file.as_fd(), "exec", label)?;
        // The kernel tells it in its own way, such as c1.c3 for c1,c2,c3.
        match heard(file.as_fd(), 4096)?.is_empty() {
            false => Ok(()),
            true => Err(CallError::refused(
                FailureKind::Unsupported,
                format!("the kernel did not take the SELinux label {label}"),
            )),
        }
    }

    /// Asks for an SELinux label of keys that are made from here on, so that the program may use its keyring.
    pub(crate) fn key_label(&self, label: &str) -> Result<(), CallError> {
        match self.open(&["keycreate"]) {
            // A kernel without keys has none to label.
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => Ok(()),
            file => ask(file?.as_fd(), "keycreate", label),
        }
    }
}

fn ask(file: BorrowedFd<'_>, name: &str, label: &str) -> Result<(), CallError> {
    match rustix::io::write(file, label.as_bytes()) {
        Err(Errno::INVAL) => Err(CallError::refused(
            FailureKind::Unsupported,
            format!(
                "the SELinux policy of this node does not have the label {label}: look at its user, role, type and level"
            ),
        )),
        result => result.in_call(|| format!("write(\"attr/{name}\", {label:?})")).map(drop),
    }
}

fn heard(file: BorrowedFd<'_>, room: usize) -> Result<Vec<u8>, CallError> {
    let mut heard = vec![0; room];
    let length = rustix::io::pread(file, &mut heard, 0).in_call(|| "read(\"attr/exec\")".into())?;
    heard.truncate(length);
    Ok(heard)
}
