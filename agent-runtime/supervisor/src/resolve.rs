//! Paths inside the root file system, resolved without ever leaving it.
//!
//! An image may hold any symbolic link. Every name is therefore resolved by openat2(2) below a descriptor of the root,
//! without magic links, and used as a descriptor from then on; missing parts are made one by one with mkdirat(2).

use crate::error::{CallError, InCall};
use coracle_runtime_protocol::FailureKind;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat2, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::path::Path;

/// As many symbolic links as the kernel follows in one path.
const LINK_LIMIT: usize = 40;
/// linux/magic.h
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// linux/magic.h
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// What to make at the end of a path when it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    MakeDirectory,
    MakeFile,
}

/// Opens the root itself.
pub(crate) fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// openat2 below `root`; the kernel answers EAGAIN when a rename elsewhere raced with the walk.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "/" } else { path };
    for _ in 0..128 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens an existing path that may contain no symbolic link at all.
pub(crate) fn existing_plain(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    open_in_root(
        root,
        path,
        OFlags::PATH | OFlags::NOFOLLOW,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens a directory for one of the runtime's own mounts, such as /proc: made when missing, refused when it is
/// anything but a directory (CVE-2019-19921, CVE-2023-27561 and their kin).
pub(crate) fn plain_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, CallError> {
    let open = || {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        open_in_root(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    };
    match open() {
        Err(Errno::NOENT) => {
            let (parent, name) = split(path);
            let parent = existing_plain(root, parent).in_call(|| format!("openat2({parent:?})"))?;
            mkdirat(&parent, name, Mode::from_raw_mode(0o755)).in_call(|| format!("mkdirat({path:?})"))?;
            open().in_call(|| format!("openat2({path:?})"))
        }
        Err(Errno::LOOP | Errno::NOTDIR) => Err(CallError::refused(
            FailureKind::RefusedRootfs,
            format!("{path} in the image is not a plain directory; remove the link or file from the image"),
        )),
        result => result.in_call(|| format!("openat2({path:?})")),
    }
}

/// Opens the target of a mount or the working directory, making what is missing.
///
/// Links are followed by hand, because a link may point at something that is missing and must then be made inside
/// the image. `done` never contains a link: each part of it was opened without following.
pub(crate) fn ensure(root: BorrowedFd<'_>, path: &str, missing: Missing) -> Result<OwnedFd, CallError> {
    let mut todo: VecDeque<String> = parts(path);
    let mut done: Vec<String> = Vec::new();
    let mut links = 0;
    let mut current = existing_plain(root, "/")
        .in_call(|| format!("openat2(\"/\") of the root file system for {path:?}"))?;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            done.pop();
            current = open_joined(root, &done)?;
            continue;
        }
        done.push(part);
        let here = joined(&done);
        let next = match existing_plain_or_link(root, &here) {
            Err(Errno::NOENT) => {
                let name = done.last().map(String::as_str).unwrap_or_default();
                make(current.as_fd(), name, &here, missing, todo.is_empty())?;
                existing_plain_or_link(root, &here)
            }
            result => result,
        }
        .in_call(|| format!("openat2({here:?})"))?;
        let kind = fstat(&next).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind.in_call(|| format!("fstat({here:?})"))? != FileType::Symlink {
            current = next;
            continue;
        }
        // A link of /proc names something of another process or of the host, not of the image.
        refuse_kernel_filesystem(next.as_fd(), path)?;
        links += 1;
        if links > LINK_LIMIT {
            return Err(CallError::refused(
                FailureKind::RefusedRootfs,
                format!("{path} has too many symbolic links in the image"),
            ));
        }
        let link = readlinkat(&next, "", Vec::new()).in_call(|| format!("readlinkat({here:?})"))?;
        let link = link.into_string().map_err(|_| {
            CallError::refused(
                FailureKind::RefusedRootfs,
                format!("{here} in the image links to a name that is not UTF-8"),
            )
        })?;
        done.pop();
        if link.starts_with('/') {
            done.clear();
        }
        current = open_joined(root, &done)?;
        for part in parts(&link).into_iter().rev() {
            todo.push_front(part);
        }
    }
    Ok(current)
}

/// The last part may be a link, which is then opened itself; no part before it may be one.
fn existing_plain_or_link(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    // RESOLVE_NO_SYMLINKS would refuse a final link also with O_NOFOLLOW|O_PATH, so the parent is opened first.
    let (parent, name) = split(path);
    let parent = existing_plain(root, parent)?;
    open_in_root(
        parent.as_fd(),
        name,
        OFlags::PATH | OFlags::NOFOLLOW,
        // BENEATH keeps an absolute or climbing name out; `name` is a single part, and may be a mount point.
        ResolveFlags::BENEATH,
    )
}

fn make(
    parent: BorrowedFd<'_>,
    name: &str,
    path: &str,
    missing: Missing,
    last: bool,
) -> Result<(), CallError> {
    let made = if last && missing == Missing::MakeFile {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    } else {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))
    };
    match made {
        // Somebody else was quicker; what is there is looked at next.
        Err(Errno::EXIST) => Ok(()),
        result => result.in_call(|| format!("create({path:?})")),
    }
}

fn open_joined(root: BorrowedFd<'_>, done: &[String]) -> Result<OwnedFd, CallError> {
    let path = joined(done);
    existing_plain(root, &path).in_call(|| format!("openat2({path:?})"))
}

/// Refuses a place inside a kernel file system: mounting or working there would redirect what the runtime and other
/// containers rely on (CVE-2019-16884, CVE-2024-21626).
pub(crate) fn refuse_kernel_filesystem(place: BorrowedFd<'_>, path: &str) -> Result<(), CallError> {
    let magic = fstatfs(place).in_call(|| format!("fstatfs({path:?})"))?.f_type;
    if magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC {
        return Err(CallError::refused(
            FailureKind::RefusedRootfs,
            format!("{path} leads into /proc or /sys of the container; choose another path"),
        ));
    }
    Ok(())
}

/// Refuses a /proc that is not the kernel's.
pub(crate) fn expect_proc(place: BorrowedFd<'_>) -> Result<(), CallError> {
    match fstatfs(place).in_call(|| "fstatfs(\"/proc\")".into())?.f_type {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(CallError::refused(FailureKind::Unsupported, "/proc of the container is not the kernel's")),
    }
}

fn parts(path: &str) -> VecDeque<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

fn joined(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

/// Parent and last part of an absolute path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn rooted(build: impl FnOnce(&Path)) -> (tempfile::TempDir, OwnedFd) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        build(&root);
        let descriptor = open_root(&root).unwrap();
        (outer, descriptor)
    }

    #[test]
    fn missing_parts_are_made_inside() {
        let (outer, root) = rooted(|_| {});
        ensure(root.as_fd(), "/a/b/../c", Missing::MakeDirectory).unwrap();
        ensure(root.as_fd(), "/a/file", Missing::MakeFile).unwrap();
        assert!(outer.path().join("root/a/b").is_dir());
        assert!(outer.path().join("root/a/c").is_dir());
        assert!(outer.path().join("root/a/file").is_file());
    }

    #[test]
    fn links_that_point_out_stay_in() {
        let (outer, root) = rooted(|root| {
            symlink("/outside", root.join("absolute")).unwrap();
            symlink("../../outside", root.join("climbing")).unwrap();
            symlink("loop", root.join("loop")).unwrap();
        });
        ensure(root.as_fd(), "/absolute/x", Missing::MakeDirectory).unwrap();
        ensure(root.as_fd(), "/climbing/y", Missing::MakeFile).unwrap();
        assert!(outer.path().join("root/outside/x").is_dir());
        assert!(outer.path().join("root/outside/y").is_file());
        assert!(!outer.path().join("outside").exists());
        assert!(!Path::new("/outside").exists());
        let error = ensure(root.as_fd(), "/loop", Missing::MakeDirectory).unwrap_err();
        assert_eq!(error.kind, FailureKind::RefusedRootfs);
    }

    #[test]
    fn own_mounts_refuse_links() {
        let (_outer, root) = rooted(|root| {
            symlink("/tmp", root.join("proc")).unwrap();
            std::fs::write(root.join("sys"), "").unwrap();
        });
        for path in ["/proc", "/sys"] {
            let error = plain_directory(root.as_fd(), path).unwrap_err();
            assert_eq!(error.kind, FailureKind::RefusedRootfs, "{path}");
        }
        plain_directory(root.as_fd(), "/dev").unwrap();
    }
}
