//! A disk in memory that can lose power: what was not synced is kept, dropped, reordered or torn by a seed.
//!
//! It is as unkind as POSIX allows: a write that was not synced may be missing, present, or present in some of its
//! 512-byte sectors; lengths may be there without content. Creations, renames and removals that no sync of their
//! directory covers may be undone, each name by itself: after an unsynced rename both names may be there, or neither.
//! Syncing a file does not make its name durable, and what is in a directory whose own name was lost is gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{Space, Storage, StorageFile};

/// The unit in which a disk writes, in bytes.
const SECTOR: usize = 512;

/// The directory that is the whole disk.
const ROOT: usize = 0;

/// A directory on a disk that keeps only what was synced. A clone, and every directory in it, is on the same disk.
#[derive(Debug, Clone)]
pub struct CrashStorage {
    disk: Arc<Mutex<Disk>>,
    directory: usize,
    path: PathBuf,
}

#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    /// Changes that may still happen before the power goes.
    remaining: Option<u64>,
    changes: u64,
    error: Option<i32>,
    space: Space,
}

#[derive(Debug, Clone)]
enum Node {
    Content(Content),
    Directory(Directory),
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// What the running program sees.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
struct Directory {
    /// What the running program sees.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes since the last sync, as they happened: what a name was made to mean.
    pending: Vec<(String, Option<usize>)>,
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

impl Default for CrashStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashStorage {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::of(vec![Node::Directory(Directory::default())])
    }

    fn of(nodes: Vec<Node>) -> Self {
        let space = Space { free: u64::MAX, total: u64::MAX };
        let disk = Disk { nodes, remaining: None, changes: 0, error: None, space };
        Self { disk: Arc::new(Mutex::new(disk)), directory: ROOT, path: PathBuf::from("/simulated") }
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

    /// How many changes were made or tried on the whole disk.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    /// What [`Storage::space`] says from now on. Nothing else follows from it.
    pub fn set_space(&self, space: Space) {
        self.disk().space = space;
    }

    /// What a power loss now could leave of the whole disk, chosen by `seed`: this directory on another disk.
    ///
    /// The choice depends on the seed and on the order of the changes, not on names.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut seeded = Seeded::new(seed);
        let mut nodes: Vec<_> =
            self.disk().nodes.iter().map(|node| node.after_power_loss(&mut seeded)).collect();
        forget_unreachable(&mut nodes);
        Self { directory: self.directory, path: self.path.clone(), ..Self::of(nodes) }
    }

    /// What a crash of the process alone leaves: everything written, of which a later power loss may still take the
    /// unsynced part.
    #[must_use]
    pub fn after_process_crash(&self) -> Self {
        let nodes = self.disk().nodes.clone();
        Self { directory: self.directory, path: self.path.clone(), ..Self::of(nodes) }
    }

    /// The content of a file, or `None`. Files in directories of this one are named with slashes.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        match disk.nodes.get(disk.find(self.directory, path)?)? {
            Node::Content(content) => Some(content.bytes.clone()),
            Node::Directory(_) => None,
        }
    }

    /// Replaces the content of a file, durably: this is how tests do damage. Creates it if need be, in a directory that
    /// is there.
    pub fn replace(&self, path: &str, bytes: Vec<u8>) {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
        let mut disk = self.disk();
        let Some(parent) = disk.find(self.directory, parent) else { return };
        let node = disk.add(Node::Content(Content::settled(bytes)));
        if let Ok(directory) = disk.directory(parent) {
            directory.names.insert(name.to_owned(), node);
            directory.durable.insert(name.to_owned(), node);
            directory.pending.retain(|(changed, _)| changed != name);
        }
    }

    /// Removes a file, durably; named as for [`CrashStorage::content`].
    pub fn forget(&self, path: &str) {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
        let mut disk = self.disk();
        let Some(parent) = disk.find(self.directory, parent) else { return };
        if let Ok(directory) = disk.directory(parent) {
            directory.names.remove(name);
            directory.durable.remove(name);
            directory.pending.retain(|(changed, _)| changed != name);
        }
    }

    /// All files in this directory and the directories in it, named as for [`CrashStorage::content`].
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.disk().collect_files(self.directory, "", &mut found);
        found
    }

    /// Works on the entries of this directory.
    fn with<T>(&self, work: impl FnOnce(&mut Directory) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk();
        disk.change()?;
        work(disk.directory(self.directory)?)
    }

    fn file(&self, node: usize) -> Arc<dyn StorageFile> {
        Arc::new(CrashFile { disk: self.disk.clone(), node })
    }
}

/// Empties what no name leads to any more, so that a disk does not grow with every power loss.
fn forget_unreachable(nodes: &mut [Node]) {
    let mut reached = BTreeSet::from([ROOT]);
    let mut next = vec![ROOT];
    while let Some(node) = next.pop() {
        if let Some(Node::Directory(directory)) = nodes.get(node) {
            next.extend(directory.names.values().copied().filter(|entry| reached.insert(*entry)));
        }
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        if !reached.contains(&number) {
            *node = Node::Content(Content::default());
        }
    }
}

impl Node {
    fn after_power_loss(&self, seeded: &mut Seeded) -> Self {
        match self {
            Self::Content(content) => Self::Content(content.after_power_loss(seeded)),
            Self::Directory(directory) => Self::Directory(directory.after_power_loss(seeded)),
        }
    }
}

impl Directory {
    fn set(&mut self, name: &str, node: Option<usize>) {
        match node {
            Some(node) => self.names.insert(name.to_owned(), node),
            None => self.names.remove(name),
        };
        self.pending.push((name.to_owned(), node));
    }

    fn get(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Every name by itself means what it meant after some of its unsynced changes, or before them.
    fn after_power_loss(&self, seeded: &mut Seeded) -> Self {
        let mut names = self.durable.clone();
        let mut decided = BTreeSet::new();
        for (name, _) in &self.pending {
            if !decided.insert(name) {
                continue;
            }
            let changes: Vec<_> =
                self.pending.iter().filter(|(changed, _)| changed == name).map(|(_, node)| *node).collect();
            // Often all or nothing, since that is what most disks do most of the time.
            let kept = match seeded.below(4) {
                0 => 0,
                1 => changes.len() as u64,
                _ => seeded.below(changes.len() as u64 + 1),
            };
            match usize::try_from(kept).ok().and_then(|kept| kept.checked_sub(1)).map(|last| changes[last]) {
                Some(Some(node)) => {
                    names.insert(name.clone(), node);
                }
                Some(None) => {
                    names.remove(name);
                }
                None => {}
            }
        }
        Self { durable: names.clone(), names, pending: Vec::new() }
    }
}

impl Content {
    fn settled(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), bytes, pending: Vec::new() }
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
    if bytes.is_empty() {
        return;
    }
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

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn directory(&mut self, node: usize) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn content(&mut self, node: usize) -> io::Result<&mut Content> {
        match self.nodes.get_mut(node) {
            Some(Node::Content(content)) => Ok(content),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn find(&self, from: usize, path: &str) -> Option<usize> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(from, |at, name| {
            match self.nodes.get(at)? {
                Node::Directory(directory) => directory.names.get(name).copied(),
                Node::Content(_) => None,
            }
        })
    }

    fn collect_files(&self, from: usize, prefix: &str, found: &mut Vec<String>) {
        let Some(Node::Directory(directory)) = self.nodes.get(from) else { return };
        for (name, node) in &directory.names {
            match self.nodes.get(*node) {
                Some(Node::Directory(_)) => self.collect_files(*node, &format!("{prefix}{name}/"), found),
                _ => found.push(format!("{prefix}{name}")),
            }
        }
    }
}

impl Storage for CrashStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().directory(self.directory)?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        disk.change()?;
        if disk.directory(self.directory)?.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = disk.add(Node::Content(Content::default()));
        disk.directory(self.directory)?.set(name, Some(node));
        Ok(self.file(node))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        let node = disk.directory(self.directory)?.get(name)?;
        disk.content(node)?;
        Ok(self.file(node))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|directory| {
            let node = directory.get(from)?;
            if from == to {
                return Ok(());
            }
            directory.set(to, Some(node));
            directory.set(from, None);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|directory| {
            directory.get(name)?;
            directory.set(name, None);
            Ok(())
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.with(|directory| {
            directory.durable.clone_from(&directory.names);
            directory.pending.clear();
            Ok(())
        })
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        let mut disk = self.disk();
        let node = match disk.directory(self.directory)?.get(name) {
            Ok(node) => node,
            Err(_) => {
                disk.change()?;
                let node = disk.add(Node::Directory(Directory::default()));
                disk.directory(self.directory)?.set(name, Some(node));
                drop(disk);
                self.sync_directory()?;
                disk = self.disk();
                node
            }
        };
        disk.directory(node)?;
        Ok(Arc::new(Self { disk: self.disk.clone(), directory: node, path: self.path.join(name) }))
    }

    fn space(&self) -> io::Result<Space> {
        Ok(self.disk().space)
    }
}

impl CrashFile {
    fn with<T>(&self, work: impl FnOnce(&mut Disk, usize) -> io::Result<T>) -> io::Result<T> {
        work(&mut self.disk.lock().unwrap_or_else(PoisonError::into_inner), self.node)
    }
}

impl StorageFile for CrashFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|disk, node| Ok(disk.content(node)?.bytes.len() as u64))
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|disk, node| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start.checked_add(buffer.len());
            let from = end.and_then(|end| disk.content(node).ok()?.bytes.get(start..end));
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, node| {
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let changed = disk.change();
            // The write during which the power goes may still reach the disk in part.
            let content = disk.content(node)?;
            if changed.is_ok() {
                put(&mut content.bytes, offset, bytes);
            }
            content.pending.push(Pending::Write { offset, bytes: bytes.to_vec() });
            changed
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|disk, node| {
            disk.change()?;
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let content = disk.content(node)?;
            content.bytes.resize(length, 0);
            content.pending.push(Pending::Truncate(length));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, node| {
            disk.change()?;
            let content = disk.content(node)?;
            content.durable.clone_from(&content.bytes);
            content.pending.clear();
            Ok(())
        })
    }
}
