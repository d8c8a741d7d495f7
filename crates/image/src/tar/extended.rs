//! Extended headers: PAX records and what they say about the next entry.

use std::collections::BTreeSet;

use super::header::Reason;
use crate::unpack::attributes::{ACCESS_LIST, DEFAULT_LIST};

/// What PAX records change about the entry that follows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) user: Option<u64>,
    pub(crate) group: Option<u64>,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) modified: Option<(i64, u32)>,
    /// Names and values, in the order given.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Access control lists that are given as text, by the attributes that they would be.
    text_lists: Vec<&'static [u8]>,
    /// A GNU sparse format is announced.
    pub(crate) sparse: bool,
    /// What is said of it.
    pub(crate) sparse_file: SparseFile,
}

/// Records of a sparse file in GNU's format 1.0 (GNU tar manual, "PAX Format, Version 1.0").
#[derive(Clone, Debug, Default)]
pub(crate) struct SparseFile {
    major: Option<u64>,
    minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    /// Bytes with its holes.
    pub(crate) size: Option<u64>,
}

impl SparseFile {
    /// Its name and its size with its holes; nothing when it is in another version of the format.
    pub(crate) fn expanded(self) -> Option<(Vec<u8>, u64)> {
        let is_known = (self.major, self.minor) == (Some(1), Some(0));
        is_known.then_some(())?;
        Some((self.name?, self.size?))
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        match key {
            b"major" => once(&mut self.major, decimal(value, "GNU.sparse.major")?, "GNU.sparse.major"),
            b"minor" => once(&mut self.minor, decimal(value, "GNU.sparse.minor")?, "GNU.sparse.minor"),
            b"name" => once(&mut self.name, value.to_vec(), "GNU.sparse.name"),
            b"realsize" => {
                once(&mut self.size, decimal(value, "GNU.sparse.realsize")?, "GNU.sparse.realsize")
            }
            _ => Ok(()),
        }
    }
}

/// The prefix under which writers put extended attributes.
const ATTRIBUTE_PREFIX: &[u8] = b"SCHILY.xattr.";
/// What names of attributes are written with, since a record's key ends at its first `=`: as GNU tar has it.
const ESCAPES: [(u8, &[u8]); 2] = [(b'%', b"%25"), (b'=', b"%3D")];

/// The key of the record of an attribute.
pub(super) fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = ATTRIBUTE_PREFIX.to_vec();
    for byte in name {
        match ESCAPES.iter().find(|(escaped, _)| escaped == byte) {
            Some((_, written)) => key.extend_from_slice(written),
            None => key.push(*byte),
        }
    }
    key
}

/// The attribute's name in such a key, without the prefix. A `%` that escapes nothing is one: not all writers escape.
fn attribute_name(mut written: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(written.len());
    while let [first, rest @ ..] = written {
        let escape = ESCAPES.iter().find(|(_, escape)| written.starts_with(escape));
        let (byte, rest) = escape.map_or((*first, rest), |(byte, escape)| (*byte, &written[escape.len()..]));
        name.push(byte);
        written = rest;
    }
    name
}

/// The prefix under which writers put access control lists as text, such as `user::rw-,user:bob:r--`.
const TEXT_LIST_PREFIX: &[u8] = b"SCHILY.acl.";

/// Whether a list has entries for the owner, the owning group and all others only. GNU tar writes such, too.
fn says_what_the_mode_says(list: &[u8]) -> bool {
    let plain = [&b"user::"[..], b"group::", b"other::"];
    let entries = list.split(|byte| matches!(byte, b',' | b'\n')).filter(|entry| !entry.is_empty());
    entries.into_iter().all(|entry| plain.iter().any(|start| entry.starts_with(start)))
}

/// The prefix of what GNU writers say of sparse files.
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

impl Extended {
    /// Reads the records of a header for one entry (`x`).
    pub(crate) fn parse(data: &[u8]) -> Result<Self, Reason> {
        let mut extended = Self::default();
        for (key, value) in records(data)? {
            extended.take(key, value)?;
        }
        // Of the names as they are: two may be written differently, and be one.
        let mut names = BTreeSet::new();
        for (name, _) in &extended.attributes {
            if !names.insert(name) {
                return Err(format!(
                    "extended header has the attribute {:?} twice",
                    String::from_utf8_lossy(name)
                ));
            }
        }
        Ok(extended)
    }

    /// Whether there are access control lists as text that are not there as attributes, too.
    pub(crate) fn has_text_lists(&self) -> bool {
        let is_attribute = |list: &&[u8]| self.attributes.iter().any(|(name, _)| name == list);
        !self.text_lists.iter().all(is_attribute)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        // An empty value takes a record of a global header back; there are none that matter here.
        match key {
            b"path" => once(&mut self.path, value.to_vec(), "path"),
            b"linkpath" => once(&mut self.link, value.to_vec(), "linkpath"),
            b"size" => once(&mut self.size, decimal(value, "size")?, "size"),
            b"uid" => once(&mut self.user, decimal(value, "uid")?, "uid"),
            b"gid" => once(&mut self.group, decimal(value, "gid")?, "gid"),
            b"mtime" => once(&mut self.modified, time(value).ok_or("mtime is not a time")?, "mtime"),
            _ if key.starts_with(SPARSE_PREFIX) => {
                self.sparse = true;
                self.sparse_file.take(&key[SPARSE_PREFIX.len()..], value)
            }
            _ if key.starts_with(ATTRIBUTE_PREFIX) => {
                let name = attribute_name(&key[ATTRIBUTE_PREFIX.len()..]);
                self.attributes.push((name, value.to_vec()));
                Ok(())
            }
            _ if key.starts_with(TEXT_LIST_PREFIX) => {
                match &key[TEXT_LIST_PREFIX.len()..] {
                    b"access" if says_what_the_mode_says(value) => {}
                    b"access" => self.text_lists.push(ACCESS_LIST),
                    b"default" => self.text_lists.push(DEFAULT_LIST),
                    // Of other systems; no attribute is like it.
                    _ => self.text_lists.push(TEXT_LIST_PREFIX),
                }
                Ok(())
            }
            // Names of owners, access times, comments, vendors' keys: nothing here depends on them.
            _ => Ok(()),
        }
    }
}

/// A global header (`g`) may only say what does not change entries: git writes a comment into one.
pub(crate) fn check_global(data: &[u8]) -> Result<(), Reason> {
    for (key, _) in records(data)? {
        if !matches!(key, b"comment" | b"hdrcharset" | b"charset" | b"atime" | b"ctime") {
            let key = String::from_utf8_lossy(key);
            return Err(format!("global extended header sets {key:?}; only comments are accepted there"));
        }
    }
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: T, key: &str) -> Result<(), Reason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("extended header has {key:?} twice")),
    }
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// `LENGTH KEY=VALUE\n` records, where the length counts the whole record.
fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, Reason> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let (record, rest) = split_record(data).ok_or("extended header has a malformed record")?;
        data = rest;
        records.push(record);
    }
    Ok(records)
}

fn split_record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = digits(&data[..space])?.try_into().ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let record = &data[space + 1..length - 1];
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some(((&record[..equals], &record[equals + 1..]), &data[length..]))
}

fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn decimal(value: &[u8], key: &str) -> Result<u64, Reason> {
    digits(value)
        .filter(|number| *number <= i64::MAX as u64)
        .ok_or_else(|| format!("extended header has a {key} that is not a number of at most 63 bits"))
}

/// `[-]SECONDS[.FRACTION]`, rounded down.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(digits(seconds.as_bytes())?).ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"1700000000.1234567891"), Some((1_700_000_000, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(
            (time(b""), time(b"x"), time(b"1.x"), time(b"99999999999999999999")),
            (None, None, None, None)
        );
    }

    #[test]
    fn names_of_attributes() {
        for (name, key) in [
            (&b"user.a"[..], &b"SCHILY.xattr.user.a"[..]),
            (b"user.=x", b"SCHILY.xattr.user.%3Dx"),
            (b"50%", b"SCHILY.xattr.50%25"),
            (b"%3D", b"SCHILY.xattr.%253D"),
        ] {
            assert_eq!(attribute_key(name), key);
            assert_eq!(attribute_name(&key[ATTRIBUTE_PREFIX.len()..]), name);
        }
        // Of a writer that does not escape.
        assert_eq!((attribute_name(b"50%"), attribute_name(b"%3d%2")), (b"50%".to_vec(), b"%3d%2".to_vec()));
    }

    #[test]
    fn lists_as_text() {
        let record = |key: &str, value: &str| {
            let mut out = Vec::new();
            super::super::writer::record(&mut out, key.as_bytes(), value.as_bytes());
            out
        };
        let has = |records: &[(&str, &str)]| {
            let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            Extended::parse(&data).unwrap().has_text_lists()
        };
        let named = ("SCHILY.acl.access", "user::rw-\nuser:1000:rw-\ngroup::---\nmask::rw-\nother::---\n");
        let attribute = ("SCHILY.xattr.system.posix_acl_access", "x");
        assert!(has(&[named]) && !has(&[named, attribute]) && !has(&[attribute]));
        assert!(!has(&[("SCHILY.acl.access", "user::rwx\ngroup::r-x\nother::r-x\n")]));
        assert!(has(&[("SCHILY.acl.access", "user::rwx,group::r-x,mask::r-x,other::r-x")]));
        assert!(has(&[("SCHILY.acl.default", "user::rwx\ngroup::r-x\nother::r-x\n"), attribute]));
        assert!(has(&[("SCHILY.acl.ace", "owner@:rwx:allow"), attribute]));
    }

    #[test]
    fn malformed_records() {
        for data in [
            &b"9 a=b\n"[..],
            b"6 a=b",
            b"0 a=b\n",
            b"x a=b\n",
            b"6 =bc\n",
            b"5 abc\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(Extended::parse(data).is_err(), "{data:?}");
        }
        assert!(Extended::parse(b"12 path=abc\n12 path=abd\n").unwrap_err().contains("twice"));
        let attribute = |name: &str| format!("{} SCHILY.xattr.{name}=x\n", 19 + name.len());
        let both = |one, other| Extended::parse([attribute(one), attribute(other)].concat().as_bytes());
        assert!(both("user.a", "user.a").unwrap_err().contains("twice"));
        assert_eq!(both("user.a", "user.b").unwrap().attributes.len(), 2);
        assert!(both("user.%", "user.%25").unwrap_err().contains("\"user.%\" twice"));
        assert!(check_global(b"12 path=abc\n").is_err());
        assert!(check_global(b"13 comment=x\n").is_ok());
    }
}
