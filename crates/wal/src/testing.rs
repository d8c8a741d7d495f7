//! A storage in memory that can lose power: unsynced writes are kept, dropped, reordered or torn by a seed.
//!
//! It is as unkind as POSIX allows: a write that was not synced may be missing, present, or present in some of its
//! 512-byte sectors; a file whose directory entry was not synced may not exist; lengths may be there without content.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Storage, StorageFile};

/// The unit in which a disk writes, in bytes.
const SECTOR: usize = 512;

/// A storage that survives only what was synced.
#[derive(Debug, Clone, Default)]
pub struct CrashStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    /// What the running program sees.
    names: BTreeMap<String, usize>,
    /// What the directory says after a power loss, before unsynced changes.
    durable_names: BTreeMap<String, usize>,
    nodes: Vec<Node>,
    /// Changes that may still happen before the power goes.
    remaining: Option<u64>,
    changes: u64,
    error: Option<i32>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// An open file of a [`CrashStorage`].
#[derive(Debug, Clone)]
pub struct CrashFile {
    disk: Arc<Mutex<Disk>>,
    node: usize,
}

/// A small deterministic generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit` (0 for 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_number().checked_rem(limit).unwrap_or(0)
    }
}

impl CrashStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every change after the next `changes` fail, as if the power went then.
    pub fn fail_after(&self, changes: u64) {
        let mut disk = self.disk();
        disk.remaining = Some(changes);
        disk.error = None;
    }

    /// Like [`CrashStorage::fail_after`], but with this operating system error (such as ENOSPC).
    pub fn fail_after_with(&self, changes: u64, errno: i32) {
        let mut disk = self.disk();
        disk.remaining = Some(changes);
        disk.error = Some(errno);
    }

    /// How many changes were made or tried.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    /// What a power loss now could leave, chosen by `seed`.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let disk = self.disk();
        let mut seeded = Seeded::new(seed);
        let nodes = disk.nodes.iter().map(|node| node.after_power_loss(&mut seeded)).collect();
        let mut names = disk.durable_names.clone();
        let touched: Vec<_> = disk.names.keys().chain(disk.durable_names.keys()).cloned().collect();
        for name in touched {
            if disk.names.get(&name) != disk.durable_names.get(&name) && seeded.below(2) == 0 {
                match disk.names.get(&name) {
                    Some(node) => names.insert(name, *node),
                    None => names.remove(&name),
                };
            }
        }
        Self::from_parts(names, nodes)
    }

    /// What a crash of the process alone leaves: everything written, of which a later power loss may still take the
    /// unsynced part.
    #[must_use]
    pub fn after_process_crash(&self) -> Self {
        let disk = self.disk();
        let (names, durable_names, nodes) =
            (disk.names.clone(), disk.durable_names.clone(), disk.nodes.clone());
        Self { disk: Arc::new(Mutex::new(Disk { names, durable_names, nodes, ..Disk::default() })) }
    }

    fn from_parts(names: BTreeMap<String, usize>, nodes: Vec<Node>) -> Self {
        let disk = Disk { durable_names: names.clone(), names, nodes, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// The content of a file, or `None`.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).and_then(|node| disk.nodes.get(*node)).map(|node| node.content.clone())
    }

    /// Replaces the content of a file, durably: this is how tests do damage.
    pub fn replace(&self, name: &str, content: Vec<u8>) {
        let mut disk = self.disk();
        let node = disk.nodes.len();
        disk.nodes.push(Node::settled(content));
        disk.names.insert(name.to_owned(), node);
        disk.durable_names.insert(name.to_owned(), node);
    }
}

impl Node {
    fn settled(content: Vec<u8>) -> Self {
        Self { durable: content.clone(), content, pending: Vec::new() }
    }

    fn after_power_loss(&self, seeded: &mut Seeded) -> Self {
        let mut content = self.durable.clone();
        // Whole files often survive or vanish together; sometimes every sector has its own fate.
        let mode = seeded.below(4);
        for change in &self.pending {
            let keep_all = mode == 0 || (mode == 1 && seeded.below(2) == 0);
            if mode == 3 && seeded.below(4) != 0 {
                continue;
            }
            match change {
                Pending::Truncate(length) if keep_all || seeded.below(2) == 0 => content.resize(*length, 0),
                Pending::Truncate(_) => {}
                Pending::Write { offset, bytes } => {
                    keep_sectors(&mut content, *offset, bytes, keep_all, seeded)
                }
            }
        }
        Self::settled(content)
    }
}

fn keep_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], keep_all: bool, seeded: &mut Seeded) {
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
        if keep_all || seeded.below(2) == 0 {
            put(content, offset + at, &bytes[at..end]);
        } else if seeded.below(3) == 0 {
            // The length became durable, the content did not.
            put_zeros(content, offset + end);
        }
        at = end;
    }
}

fn put_zeros(content: &mut Vec<u8>, length: usize) {
    if content.len() < length {
        content.resize(length, 0);
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    put_zeros(content, offset + bytes.len());
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    /// Counts a change; fails once the power is gone.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        match &mut self.remaining {
            Some(0) => Err(self
                .error
                .map_or_else(|| io::Error::other("the power is off"), io::Error::from_raw_os_error)),
            Some(remaining) => {
                *remaining -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Storage for CrashStorage {
    type File = CrashFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<CrashFile> {
        let mut disk = self.disk();
        disk.change()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = disk.nodes.len();
        disk.nodes.push(Node::default());
        disk.names.insert(name.to_owned(), node);
        Ok(CrashFile { disk: self.disk.clone(), node })
    }

    fn open(&self, name: &str) -> io::Result<CrashFile> {
        let node = *self.disk().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(CrashFile { disk: self.disk.clone(), node })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        let node = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        disk.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl CrashFile {
    fn with<T>(&self, work: impl FnOnce(&mut Disk, usize) -> io::Result<T>) -> io::Result<T> {
        work(&mut self.disk.lock().unwrap_or_else(PoisonError::into_inner), self.node)
    }
}

impl StorageFile for CrashFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|disk, node| Ok(disk.nodes[node].content.len() as u64))
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|disk, node| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let from = disk.nodes[node].content.get(start..start + buffer.len());
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, node| {
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let changed = disk.change();
            // The write during which the power goes may still reach the disk in part.
            let node = &mut disk.nodes[node];
            if changed.is_ok() {
                put(&mut node.content, offset, bytes);
            }
            node.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
            changed
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|disk, node| {
            disk.change()?;
            let length = usize::try_from(length).map_err(io::Error::other)?;
            disk.nodes[node].content.resize(length, 0);
            disk.nodes[node].pending.push(Pending::Truncate(length));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, node| {
            disk.change()?;
            let node = &mut disk.nodes[node];
            node.durable.clone_from(&node.content);
            node.pending.clear();
            Ok(())
        })
    }
}
