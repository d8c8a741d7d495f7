//! Raw tar blocks, written independently of the crate, so that every lie can be told; and a scratch store.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coracle_image::{ImageStore, Limits, Platform};
use tempfile::TempDir;

/// A header block with every field free to be wrong.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) size: Vec<u8>,
    pub(crate) type_flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) break_checksum: bool,
}

pub(crate) fn raw(name: impl AsRef<[u8]>, type_flag: u8) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        mode: 0o644,
        user: 0,
        size: Vec::new(),
        type_flag,
        link: Vec::new(),
        data: Vec::new(),
        break_checksum: false,
    }
}

impl Raw {
    pub(crate) fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        self.link = target.as_ref().to_vec();
        self
    }

    pub(crate) fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    /// The size field as it stands in the header, whatever the data.
    pub(crate) fn size(mut self, field: impl AsRef<[u8]>) -> Self {
        self.size = field.as_ref().to_vec();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn user(mut self, user: u64) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn broken(mut self) -> Self {
        self.break_checksum = true;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        let mut user = self.user.to_be_bytes();
        user[0] |= 0x80;
        put(108, &user);
        put(116, b"0000000");
        let size = if self.size.is_empty() {
            format!("{:011o}", self.data.len()).into_bytes()
        } else {
            self.size.clone()
        };
        put(124, &size);
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[self.type_flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u64 =
            block.iter().map(|byte| u64::from(*byte)).sum::<u64>() + u64::from(self.break_checksum);
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend_from_slice(&self.data);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }
}

/// Entries and an end marker.
pub(crate) fn tar(entries: &[Raw]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Raw::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// An extended header with these records.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Raw {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    raw("PaxHeaders/x", b'x').data(data)
}

/// A store in a temporary directory.
pub(crate) struct Scratch {
    pub(crate) store: ImageStore,
    pub(crate) directory: TempDir,
}

pub(crate) fn scratch(limits: Limits) -> Scratch {
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let store = ImageStore::open_with(directory.path().join("images"), limits, platform).unwrap();
    Scratch { store, directory }
}

impl Scratch {
    pub(crate) fn path(&self, part: &str) -> std::path::PathBuf {
        self.directory.path().join("images").join(part)
    }

    pub(crate) fn entries(&self, part: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(part))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The store holds nothing at all.
    pub(crate) fn assert_empty(&self, case: &str) {
        for part in ["tmp", "blobs/sha256", "layers", "images"] {
            assert_eq!(self.entries(part), Vec::<String>::new(), "{case}: left in {part}");
        }
    }
}

/// Path to (type and permission bits, size or device, link target), for everything below `root`.
pub(crate) fn listing(root: &Path) -> BTreeMap<String, (u32, u64, String)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let status = path.symlink_metadata().unwrap();
            let size = if status.is_file() { status.len() } else { status.rdev() };
            let target =
                std::fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if status.is_dir() {
                pending.push(path);
            }
            found.insert(name, (status.mode(), size, target));
        }
    }
    found
}
