//! Steps of a walk through a tree that somebody may be changing: below the root, through no link.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::vec;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;

use crate::unpack::root::retry;

/// Opens the directory `path` below the root; empty is the root itself.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry(|| openat2(root, name, flags, Mode::empty(), resolve))
}

/// The names in a directory, in order: the same tree is walked in the same way.
pub(crate) fn names(directory: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// The names of the directories in a directory.
pub(crate) fn directories(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            known => known,
        };
        if kind == FileType::Directory && !matches!(name.to_bytes(), b"." | b"..") {
            names.push(OsString::from_vec(name.to_bytes().to_vec()));
        }
    }
    Ok(names)
}

/// What `name` in the directory `path` is called below the root.
pub(crate) fn child(path: &[u8], name: &OsStr) -> Vec<u8> {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, separator, name.as_bytes()].concat()
}

/// The directories that are still to be visited: each before those in it, and those before its neighbours.
///
/// Only names are kept, and only those beside the way down: whole paths of a directory with very many directories would take
/// far more memory than the tree itself.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    begun: bool,
    /// Of the directory that was given last.
    path: Vec<u8>,
    /// The length of each path on the way down, and what is left to visit in it.
    levels: Vec<(usize, vec::IntoIter<OsString>)>,
}

impl Agenda {
    /// The path of the next directory; the first is the root, which is empty.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        if !self.begun {
            self.begun = true;
            return Some(Vec::new());
        }
        loop {
            let (length, names) = self.levels.last_mut()?;
            self.path.truncate(*length);
            if let Some(name) = names.next() {
                self.path = child(&self.path, &name);
                return Some(self.path.clone());
            }
            self.levels.pop();
        }
    }

    /// The directory that was given last has these in it.
    pub(crate) fn found(&mut self, directories: Vec<OsString>) {
        if !directories.is_empty() {
            self.levels.push((self.path.len(), directories.into_iter()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_comes_before_those_in_it_and_those_before_its_neighbours() {
        let below = |path: &str| match path {
            "" => vec!["a", "b", "c"],
            "a" => vec!["x", "y"],
            "a/x" => vec!["deep"],
            "c" => vec!["z"],
            _ => vec![],
        };
        let mut agenda = Agenda::default();
        let mut visited = Vec::new();
        while let Some(path) = agenda.next() {
            let path = String::from_utf8(path).unwrap();
            agenda.found(below(&path).into_iter().map(OsString::from).collect());
            visited.push(path);
        }
        assert_eq!(visited, ["", "a", "a/x", "a/x/deep", "a/y", "b", "c", "c/z"]);
    }
}
