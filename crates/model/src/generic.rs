//! Things of a node that are neither processor time nor memory: graphics cards, licences, disks.
//!
//! A kind is either counted (`SSD=3`) or its things have names (`GPU=UUID1`, once for each). A name is never a number, so
//! that the two can be told apart wherever they are written down. A kind with a slash is one of CDI files (`VENDOR/CLASS`): a
//! task has the devices of the things that it is given.

use std::collections::{BTreeMap, BTreeSet};

use crate::resources::GenericResource;

/// Kinds of one node at most.
pub const KINDS_LIMIT: usize = 64;
/// Named things of one kind on one node at most.
pub const NAMES_LIMIT: usize = 1024;
/// Longest kind or name, in bytes.
pub const LENGTH_LIMIT: usize = 128;

/// Why texts do not say what a node has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("generic-resource: invalid value {value:?}: {problem}")]
pub struct GenericError {
    value: String,
    problem: &'static str,
}

fn refuse<T>(value: &str, problem: &'static str) -> Result<T, GenericError> {
    Err(GenericError { value: value.chars().take(LENGTH_LIMIT).collect(), problem })
}

/// Reads what a node has from `KIND=NUMBER` and `KIND=NAME`.
///
/// # Errors
/// The first text that cannot be used, with what would be right.
pub fn parse(texts: &[String]) -> Result<BTreeMap<String, GenericResource>, GenericError> {
    let mut held: BTreeMap<String, GenericResource> = BTreeMap::new();
    for text in texts {
        let Some((kind, value)) = text.split_once('=') else {
            return refuse(text, "use KIND=NUMBER, or KIND=NAME once for each thing");
        };
        match (value.parse::<u64>(), held.get_mut(kind)) {
            (Ok(count), None) => drop(held.insert(kind.to_owned(), GenericResource::Count(count))),
            (Err(_), None) => {
                held.insert(kind.to_owned(), GenericResource::Named([value.to_owned()].into()));
            }
            (Err(_), Some(GenericResource::Named(names))) => {
                if !names.insert(value.to_owned()) {
                    return refuse(text, "it is given twice");
                }
            }
            (Ok(_), Some(_)) | (Err(_), Some(GenericResource::Count(_))) => {
                return refuse(text, "a kind is given by one number, or by names alone");
            }
        }
    }
    check(&held)?;
    Ok(held)
}

/// Checks what a node says that it has.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(held: &BTreeMap<String, GenericResource>) -> Result<(), GenericError> {
    if held.len() > KINDS_LIMIT {
        return refuse("", "a node has 64 kinds at most");
    }
    for (kind, resource) in held {
        check_kind(kind)?;
        match resource {
            GenericResource::Count(0) => return refuse(kind, "none of a kind is said by leaving it out"),
            GenericResource::Count(_) => {}
            GenericResource::Named(names) => check_names(kind, names)?,
        }
    }
    Ok(())
}

/// Whether nodes and services may have a kind of this name.
#[must_use]
pub fn is_kind(kind: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    !kind.is_empty() && kind.len() <= LENGTH_LIMIT && kind.bytes().all(allowed)
}

fn check_kind(kind: &str) -> Result<(), GenericError> {
    if !is_kind(kind) {
        return refuse(kind, "a kind is made of letters, digits, '-', '_', '.' and '/'");
    }
    Ok(())
}

fn check_names(kind: &str, names: &BTreeSet<String>) -> Result<(), GenericError> {
    if names.is_empty() || names.len() > NAMES_LIMIT {
        return refuse(kind, "a kind has between 1 and 1024 names");
    }
    let bad = |name: &&String| {
        name.is_empty()
            || name.len() > LENGTH_LIMIT
            || name.parse::<u64>().is_ok()
            || name.contains(|c: char| c == ',' || c == '=' || c.is_whitespace() || c.is_control())
    };
    match names.iter().find(bad) {
        None => Ok(()),
        Some(name) => refuse(name, "a name has no ',', '=' or spaces, and is no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<BTreeMap<String, GenericResource>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse(&texts).map_err(|error| error.to_string())
    }

    #[test]
    fn kinds_of_cdi_files_are_kinds() {
        assert!(parsed(&["nvidia.com/gpu=GPU-1"]).is_ok() && is_kind("nvidia.com/gpu"));
        assert!(!is_kind("") && !is_kind("a=b") && !is_kind(&"a".repeat(LENGTH_LIMIT + 1)));
    }

    #[test]
    fn counted_and_named() {
        let held = parsed(&["GPU=UUID1", "SSD=3", "GPU=UUID2"]).unwrap();
        assert_eq!(held["SSD"], GenericResource::Count(3));
        assert_eq!(
            held["GPU"],
            GenericResource::Named(["UUID1", "UUID2"].map(str::to_owned).into_iter().collect())
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy() {
        let cases: [(&[&str], &str); 8] = [
            (&["GPU"], "use KIND=NUMBER, or KIND=NAME once for each thing"),
            (&["GPU=1", "GPU=a"], "a kind is given by one number, or by names alone"),
            (&["GPU=a", "GPU=1"], "a kind is given by one number, or by names alone"),
            (&["SSD=1", "SSD=2"], "a kind is given by one number, or by names alone"),
            (&["GPU=a", "GPU=a"], "it is given twice"),
            (&["SSD=0"], "none of a kind is said by leaving it out"),
            (&["a b=1"], "a kind is made of letters, digits, '-', '_', '.' and '/'"),
            (&["GPU=a,b"], "a name has no ',', '=' or spaces, and is no number"),
        ];
        for (texts, problem) in cases {
            let error = parsed(texts).unwrap_err();
            assert!(error.starts_with("generic-resource: invalid value "), "{error}");
            assert!(error.ends_with(problem), "{texts:?}: {error}");
        }
    }
}
