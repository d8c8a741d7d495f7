//! Paths of entries: relative, plain, bounded.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::{LimitKind, Refusal};
use crate::limits::Limits;

/// Bytes of one component (`NAME_MAX`).
const COMPONENT_BYTES: usize = 255;

/// The path of an entry inside its layer, without `.` and empty components. Empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPath {
    components: Vec<OsString>,
}

/// Why a path is unusable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    Refused(Refusal),
    Limit(LimitKind, u64),
}

impl From<Refusal> for PathError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl EntryPath {
    /// Reads a path or hard link target as an archive spells it.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(Refusal::EmptyName.into());
        }
        check_text(bytes, limits)?;
        if bytes.starts_with(b"/") {
            return Err(Refusal::AbsolutePath.into());
        }
        let mut components = Vec::new();
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(Refusal::ParentTraversal.into()),
                _ if component.len() > COMPONENT_BYTES => return Err(Refusal::ComponentTooLong.into()),
                _ if components.len() == limits.path_depth => {
                    return Err(PathError::Limit(LimitKind::PathDepth, limits.path_depth as u64));
                }
                _ => components.push(OsString::from_vec(component.to_vec())),
            }
        }
        Ok(Self { components })
    }

    /// The last component and the ones before; nothing for the root itself.
    pub(crate) fn split(&self) -> Option<(&[OsString], &OsStr)> {
        self.components.split_last().map(|(name, parent)| (parent, name.as_os_str()))
    }
}

/// What paths and symbolic link targets have in common.
pub(crate) fn check_text(bytes: &[u8], limits: &Limits) -> Result<(), PathError> {
    if bytes.len() > limits.path_bytes {
        return Err(PathError::Limit(LimitKind::PathBytes, limits.path_bytes as u64));
    }
    if bytes.contains(&0) {
        return Err(Refusal::NulByte.into());
    }
    Ok(())
}

/// Components as one relative path for a system call; `.` for none.
pub(crate) fn join(components: &[OsString]) -> OsString {
    if components.is_empty() {
        return OsString::from(".");
    }
    components.join(OsStr::from_bytes(b"/"))
}
