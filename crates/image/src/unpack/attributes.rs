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
    is_allowed(name) || matches!(name, b"system.posix_acl_access" | DEFAULT_LIST)
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

#[cfg(test)]
mod tests {
    use super::is_allowed;

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
