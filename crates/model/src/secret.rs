//! Secrets and configs: what services are given as files.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::cluster::Secret as Bytes;
use crate::id::FileId;
use crate::time::Timestamp;
use crate::version::Version;

/// Most bytes of a secret; Swarm's.
pub const SECRET_LIMIT: usize = 500 * 1024;
/// Most bytes of a config; Swarm's.
pub const CONFIG_LIMIT: usize = 1000 * 1024;
/// Longest name, in characters.
pub const FILE_NAME_LIMIT: usize = 64;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Kept in memory only, never shown.
    Secret,
    /// May be shown and stored.
    Config,
}

impl FileKind {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Most bytes of one.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::Secret => SECRET_LIMIT,
            Self::Config => CONFIG_LIMIT,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A secret or a config, as the managers know it; its versions' content is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Who it is.
    pub id: FileId,
    /// Secret or config.
    pub kind: FileKind,
    /// Last write to this object.
    pub version: Version,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Its name, unique among its kind.
    pub name: FileName,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its content has placeholders that are filled in on the node.
    pub template: bool,
    /// Versions that exist, with the size of each; the highest is the one that services follow.
    pub contents: BTreeMap<u64, Content>,
}

/// One version of a secret or a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// When it was made.
    pub created_at: Timestamp,
    /// The bytes; no message, log or listing shows them.
    pub data: Bytes,
}

impl File {
    /// The version that services follow.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.contents.last_key_value().map_or(0, |(number, _)| *number)
    }
}

/// Name of a secret or a config: letters, digits, `-`, `_` and `.`, beginning and ending with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

impl FileName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name: invalid value {0:?}: a secret or config has a name of 1 to {FILE_NAME_LIMIT} letters, digits, '-', '_' and '.', \
     and begins and ends with a letter or a digit"
)]
pub struct FileNameError(String);

impl FromStr for FileName {
    type Err = FileNameError;

    fn from_str(text: &str) -> Result<Self, FileNameError> {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let inside =
            bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if bytes.len() <= FILE_NAME_LIMIT && inside && ends(bytes.first()) && ends(bytes.last()) {
            Ok(Self(text.into()))
        } else {
            Err(FileNameError(text.to_owned()))
        }
    }
}

/// A secret or a config that a service is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileReference {
    /// Secret or config.
    pub kind: FileKind,
    /// Its name.
    pub name: FileName,
    /// The object that the name meant when the service was written.
    pub file: FileId,
    /// The version in force. Set by the manager: the pinned one, or the latest when the service was written or last followed.
    pub content: u64,
    /// Stays at `content`; otherwise the service follows the name, with a rollout when there is a newer version.
    pub pinned: bool,
    /// Where it is put.
    pub target: FileTarget,
}

impl FileReference {
    /// Absolute path of the file in the container; none where it is no file.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        let FileTarget::File { path, .. } = &self.target else { return None };
        let below = match self.kind {
            FileKind::Secret => SECRETS_FOLDER,
            FileKind::Config => "",
        };
        Some(if path.starts_with('/') { path.clone() } else { format!("{below}/{path}") })
    }
}

/// Bytes that the kernel takes of one variable of a program, its name, `=` and the end included (execve(2), `MAX_ARG_STRLEN`).
const VARIABLE_LIMIT: usize = 128 * 1024;

/// The entry `NAME=VALUE` of a program's environment that a secret or a config becomes.
///
/// # Errors
/// If the kernel or the format of plans takes no such value: why, and nothing of the value itself.
pub fn variable_entry(variable: &str, data: &[u8]) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("it cannot be the variable {variable}: {why}; give it as a file"));
    match std::str::from_utf8(data) {
        Err(_) => refuse("it is no text in UTF-8"),
        Ok(text) if text.contains('\0') => refuse("it has a zero byte"),
        Ok(text) if variable.len() + text.len() + 2 > VARIABLE_LIMIT => {
            refuse("a variable has 128 KiB at most, with its name")
        }
        Ok(text) => Ok(format!("{variable}={text}")),
    }
}

/// Where secrets with relative paths are.
pub const SECRETS_FOLDER: &str = "/run/secrets";

/// Where a secret or a config is put.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileTarget {
    /// A file.
    File {
        /// Path: relative ones are below `/run/secrets` (secrets) or `/` (configs).
        path: String,
        /// Owner, a number.
        uid: u32,
        /// Group, a number.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A variable of the environment, where the operator insists: every process of the container and whoever reads `/proc`
    /// on the node can see it.
    Environment {
        /// Its name.
        variable: String,
    },
}

/// Permission bits of such files unless said otherwise.
pub const FILE_MODE: u32 = 0o444;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_takes_can_be_a_variable() {
        assert_eq!(variable_entry("A", "ä=\n".as_bytes()), Ok("A=ä=\n".to_owned()));
        let most = vec![b'x'; VARIABLE_LIMIT - 3];
        assert!(variable_entry("A", &most).is_ok());
        for (name, data, why) in [
            ("AB", &most[..], "a variable has 128 KiB at most, with its name"),
            ("A", b"canary\0", "it has a zero byte"),
            ("A", b"canary\xff", "it is no text in UTF-8"),
        ] {
            let told = variable_entry(name, data).unwrap_err();
            assert_eq!(told, format!("it cannot be the variable {name}: {why}; give it as a file"));
        }
    }
}
