//! What others have mounted on the host where a container's files are.

use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Unmounts everything below a directory, the last first. What is in use goes when it is not any more.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    // The kernel knows mounts by paths without links.
    let directory = fs::canonicalize(directory)?;
    for mount in below(&fs::read("/proc/self/mountinfo")?, &directory).into_iter().rev() {
        tracing::warn!(path = %mount.display(), "something is mounted among a container's files; it is unmounted");
        unmount(&mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Mount points below a directory (kernel: filesystems/proc, "mountinfo").
fn below(mountinfo: &[u8], directory: &Path) -> Vec<PathBuf> {
    let mounts =
        mountinfo.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let paths = mounts.map(|escaped| PathBuf::from(OsStr::from_bytes(&unescape(escaped))));
    paths.filter(|path| path != directory && path.starts_with(directory)).collect()
}

/// Blanks and the like stand there as a backslash and three octal digits.
fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(byte);
                rest = &after[3..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_and_with_blanks_in_its_name() {
        let text = b"30 20 0:1 / /s/c1 rw - tmpfs tmpfs rw\n\
            31 30 0:2 / /s/c1/rootfs/a\\040b rw shared:5 - ext4 /dev/x rw\n\
            32 30 0:2 / /s/c1/rootfs/a\\134 rw - ext4 /dev/x rw\n\
            33 30 0:3 / /s/c10 rw - ext4 /dev/x rw\n\
            34 20 0:3 / / rw - ext4 /dev/x rw\n";
        let found = below(text, Path::new("/s/c1"));
        assert_eq!(found, ["/s/c1/rootfs/a b", "/s/c1/rootfs/a\\"].map(PathBuf::from));
        assert_eq!(unescape(b"a\\0\\99"), b"a\\0\\99");
    }
}
