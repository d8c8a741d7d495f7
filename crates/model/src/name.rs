//! Names that operators give.

use std::fmt;
use std::str::FromStr;

/// Longest name of a service, in characters: one DNS label.
pub const SERVICE_NAME_LIMIT: usize = 63;

/// The name of a service: letters and digits, with single or repeated `-` and `_` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Box<str>);

/// Why a text is not a service name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name: invalid value {0:?}: a service name has 1 to {SERVICE_NAME_LIMIT} letters, digits, '-' and '_', \
     and begins and ends with a letter or a digit"
)]
pub struct NameError(String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let inside = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if bytes.len() <= SERVICE_NAME_LIMIT && inside && ends(bytes.first()) && ends(bytes.last()) {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_dns_label_are_accepted() {
        for name in ["a", "web", "Web-1", "a__b", "9lives", &"x".repeat(63)] {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_value() {
        for name in ["", "-a", "a-", "a.b", "ä", "a b", "_", &"x".repeat(64)] {
            let error = name.parse::<ServiceName>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
