//! Which extended attributes of a layer are kept, and setting them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;

use crate::error::{Refusal, printable};

use super::Rules;

/// File capabilities; dropping them would break programs such as ping, and they mean nothing outside of the container's root.
const CAPABILITY: &[u8] = b"security.capability";
/// Who may do what with a file, acl(5).
pub(crate) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// What files that are made in a directory inherit, acl(5).
pub(crate) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";
/// Bytes of a name at most (`XATTR_NAME_MAX`).
const NAME_BYTES: usize = 255;

/// What happened to an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Set,
    LeftOut,
}

/// Why setting an attribute failed.
#[derive(Debug)]
pub(crate) enum AttributeError {
    Refused(Refusal),
    Kernel(Errno),
}

/// Whether an attribute may come from a layer. `trusted.*` and `user.overlay.*` steer overlayfs; `security.*` other than
/// capabilities and `system.*` carry policies of the host the layer was made on.
fn is_allowed(name: &[u8]) -> bool {
    name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Whether an attribute is part of a tree that an operator keeps: also who may do what with a file, acl(5).
pub(crate) fn is_kept_in_trees(name: &[u8]) -> bool {
    is_allowed(name) || matches!(name, ACCESS_LIST | DEFAULT_LIST)
}

/// Sets one attribute of a file or directory, or leaves it out.
pub(crate) fn set(
    object: BorrowedFd<'_>,
    rules: Rules,
    name: &[u8],
    value: &[u8],
) -> Result<Kept, AttributeError> {
    let invalid = || AttributeError::Refused(Refusal::AttributeName(printable(name)));
    if name.is_empty() || name.contains(&0) || name.len() > NAME_BYTES {
        return Err(invalid());
    }
    let is_kept = match rules {
        Rules::Layer => is_allowed(name),
        Rules::Tree => is_kept_in_trees(name),
    };
    if !is_kept {
        return Ok(Kept::LeftOut);
    }
    match fsetxattr(object, OsStr::from_bytes(name), value, XattrFlags::empty()) {
        Ok(()) => Ok(Kept::Set),
        Err(Errno::INVAL | Errno::PERM) if name == CAPABILITY => {
            Err(AttributeError::Refused(Refusal::CapabilityAttribute))
        }
        // A file system without user attributes still runs nearly every image; without capabilities it would not.
        Err(Errno::OPNOTSUPP) if name != CAPABILITY => Ok(Kept::LeftOut),
        Err(Errno::INVAL) => Err(invalid()),
        Err(error) => Err(AttributeError::Kernel(error)),
    }
}

/// The mode of a file that has lost its access control list: nobody may do more with it than the list allowed. With a list the
/// mode's bits for the group are what anybody whom the list names may do at most (acl(5), "CORRESPONDENCE"). One that is refused
/// something by name would be one of the group or of all others.
pub(crate) fn mode_without_list(mode: u32, list: &[u8]) -> u32 {
    const NAMED_USER: u16 = 2;
    const GROUP: u16 = 4;
    const NAMED_GROUP: u16 = 8;
    let group_bits = mode >> 3 & 7;
    let (mut group, mut named) = (0, 7);
    // Version; then tag, permissions and id of each (linux/posix_acl_xattr.h).
    for entry in list.get(4..).unwrap_or_default().chunks_exact(8) {
        let permissions = u32::from(u16::from_le_bytes([entry[2], entry[3]]));
        match u16::from_le_bytes([entry[0], entry[1]]) {
            GROUP => group = permissions,
            NAMED_USER | NAMED_GROUP => named &= permissions & group_bits,
            _ => {}
        }
    }
    mode & !0o077 | (group_bits & group & named) << 3 | mode & 7 & named
}

#[cfg(test)]
mod tests {
    use super::{is_allowed, mode_without_list};

    #[test]
    fn without_its_list_a_file_gives_nobody_more() {
        let without = |mode, entries: &[(u16, u16)]| {
            let mut list = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions) in entries {
                list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &[0; 4]].concat());
            }
            format!("{:o}", mode_without_list(mode, &list))
        };
        assert_eq!(without(0o660, &[(1, 6), (2, 6), (4, 0), (16, 6), (32, 0)]), "600");
        assert_eq!(without(0o2775, &[(1, 7), (2, 7), (4, 5), (16, 7), (32, 5)]), "2755");
        // The mask allows less than the group's entry does.
        assert_eq!(without(0o740, &[(1, 7), (4, 7), (16, 4), (32, 0)]), "740");
        // Who is shut out by name is not let in with all others.
        assert_eq!(without(0o644, &[(1, 6), (2, 0), (4, 4), (16, 4), (32, 4)]), "600");
        assert_eq!(without(0o675, &[(1, 6), (8, 4), (4, 7), (16, 7), (32, 5)]), "644");
        assert_eq!(without(0o664, &[]), "604");
        assert_eq!(format!("{:o}", mode_without_list(0o4777, b"xy")), "4707");
    }

    #[test]
    fn allow_list() {
        assert!(is_allowed(b"user.mime_type") && is_allowed(b"security.capability"));
        for name in [
            &b"trusted.overlay.opaque"[..],
            b"trusted.overlay.redirect",
            b"user.overlay.whiteout",
            b"user.overlay.opaque",
            b"security.selinux",
            b"security.ima",
            b"security.capability.x",
            b"system.posix_acl_access",
            b"USER.x",
            b"",
        ] {
            assert!(!is_allowed(name), "{name:?}");
        }
    }
}
