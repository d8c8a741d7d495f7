//! Directories that entries describe. What would change, or be changed by, what is made in them later is set when everything
//! else is done.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{Mode, Timespec, fchmod, fstat, futimens};
use rustix::io::Errno;

use crate::error::LimitKind;
use crate::tar::Entry;
use crate::walk::{Agenda, directories, open_directory};

use super::super::Rules;
use super::super::attributes::{self, AttributeError, DEFAULT_LIST, Kept};
use super::failure::Failure;
use super::{modified, times};

/// Bytes of default access control lists of one archive that are kept until the end.
const LIST_BYTES: u64 = 64 << 20;

/// What is set on a directory at the end.
struct Described {
    mode: u32,
    modified: Timespec,
    /// What is made in the directory later would inherit it.
    default_list: Option<Box<[u8]>>,
}

/// The directories of one archive that are to be finished.
///
/// They are known by their inodes: a directory reached by two names is finished once, with what came last, and however long
/// the paths of an archive are, they take no memory.
#[derive(Default)]
pub(super) struct Directories {
    described: BTreeMap<u64, Described>,
    list_bytes: u64,
}

impl Directories {
    /// Notes what an entry says of the directory with this inode, and the mode it is to have.
    pub(super) fn describe(
        &mut self,
        inode: u64,
        entry: &Entry,
        mode: u32,
        rules: Rules,
    ) -> Result<(), Failure> {
        let is_list = |(name, _): &&(Vec<u8>, Vec<u8>)| is_left_to_the_end(rules, name);
        let default_list: Option<Box<[u8]>> =
            entry.attributes.iter().find(is_list).map(|(_, list)| list.as_slice().into());
        self.list_bytes += default_list.as_ref().map_or(0, |list| list.len() as u64);
        if self.list_bytes > LIST_BYTES {
            return Err(Failure::Limit(LimitKind::LayerAttributeBytes, LIST_BYTES));
        }
        let described = Described { mode, modified: modified(entry), default_list };
        self.described.insert(inode, described);
        Ok(())
    }

    /// Sets everything below and on `root`. Returns how many lists the file system cannot keep.
    pub(super) fn finish(mut self, root: BorrowedFd<'_>) -> Result<u64, AttributeError> {
        let mut left_out = 0;
        let mut agenda = Agenda::default();
        while let Some(path) = agenda.next().filter(|_| !self.described.is_empty()) {
            let directory = open_directory(root, &path).map_err(AttributeError::Kernel)?;
            agenda.found(directories(&directory).map_err(AttributeError::Kernel)?);
            let inode = fstat(&directory).map_err(AttributeError::Kernel)?.st_ino;
            if let Some(described) = self.described.remove(&inode) {
                left_out += u64::from(described.set(directory.as_fd())? == Kept::LeftOut);
            }
        }
        Ok(left_out)
    }
}

impl Described {
    fn set(&self, directory: BorrowedFd<'_>) -> Result<Kept, AttributeError> {
        let kept = match &self.default_list {
            None => Kept::Set,
            Some(list) => attributes::set(directory, Rules::Tree, DEFAULT_LIST, list)?,
        };
        let set = |result: Result<(), Errno>| result.map_err(AttributeError::Kernel);
        set(fchmod(directory, Mode::from_raw_mode(self.mode)))?;
        // Nothing that is done in the directories below changes it.
        set(futimens(directory, &times(self.modified)))?;
        Ok(kept)
    }
}

/// Whether an attribute of a directory is set when everything else is done.
pub(super) fn is_left_to_the_end(rules: Rules, name: &[u8]) -> bool {
    rules == Rules::Tree && name == DEFAULT_LIST
}
