//! Writes archives: ustar headers, PAX records where ustar cannot say it. The same input gives the same bytes.

use std::io::{self, Read, Write};

use super::extended::attribute_key;
use super::header::HeaderFields;
use super::{BLOCK, EntryKind};

/// An entry to write.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: EntryKind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Seconds since the epoch.
    pub(crate) modified: u64,
    pub(crate) attributes: &'a [(Vec<u8>, Vec<u8>)],
    /// PAX records besides those that the other fields need.
    pub(crate) records: &'a [(&'static str, Vec<u8>)],
}

impl<'a> NewEntry<'a> {
    /// A file of `size` bytes that root owns, as members of image archives are.
    pub(crate) fn file(path: &'a str, size: u64) -> Self {
        Self {
            path: path.as_bytes(),
            kind: EntryKind::File,
            size,
            mode: 0o644,
            user: 0,
            group: 0,
            modified: 0,
            attributes: &[],
            records: &[],
        }
    }

    /// A directory that root owns.
    pub(crate) fn directory(path: &'a str) -> Self {
        Self { kind: EntryKind::Directory, mode: 0o755, ..Self::file(path, 0) }
    }
}

/// Writes entries to `W`; [`TarWriter::finish`] writes the end marker.
pub(crate) struct TarWriter<W> {
    sink: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Writes one entry; exactly `entry.size` bytes are taken from `data`.
    pub(crate) fn append(&mut self, entry: &NewEntry<'_>, data: impl Read) -> io::Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            self.write_block(&header(b"pax", b'x', records.len() as u64, entry, b""))?;
            self.write_padded(&records)?;
        }
        let (type_flag, link) = match &entry.kind {
            EntryKind::File => (b'0', &[][..]),
            EntryKind::Directory => (b'5', &[][..]),
            EntryKind::SymbolicLink { target } => (b'2', &target[..]),
            EntryKind::HardLink { target } => (b'1', &target[..]),
            EntryKind::Fifo => (b'6', &[][..]),
            EntryKind::Device => return Err(io::Error::other("devices are not written into archives")),
        };
        self.write_block(&header(entry.path, type_flag, entry.size, entry, link))?;
        let copied = io::copy(&mut data.take(entry.size), &mut self.sink)?;
        if copied != entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(entry.size)
    }

    /// Writes one entry whose data is in memory.
    pub(crate) fn append_bytes(&mut self, entry: &NewEntry<'_>, data: &[u8]) -> io::Result<()> {
        self.append(&NewEntry { size: data.len() as u64, ..entry.clone() }, data)
    }

    /// Writes the end marker and gives the sink back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn write_block(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        self.sink.write_all(block)
    }

    fn write_padded(&mut self, data: &[u8]) -> io::Result<()> {
        self.sink.write_all(data)?;
        self.pad(data.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.sink.write_all(&[0; BLOCK][over..]) }
    }
}

fn header(name: &[u8], type_flag: u8, size: u64, entry: &NewEntry<'_>, link: &[u8]) -> [u8; BLOCK] {
    HeaderFields {
        name,
        mode: entry.mode,
        user: u64::from(entry.user),
        group: u64::from(entry.group),
        size,
        modified: entry.modified,
        type_flag,
        link,
    }
    .to_block()
}

/// The PAX records an entry needs, none for most.
fn records(entry: &NewEntry<'_>) -> Vec<u8> {
    const FIELD: usize = 100;
    const LARGEST_OWNER: u32 = 0o777_7777;
    let mut records = Vec::new();
    if entry.path.len() > FIELD {
        record(&mut records, b"path", entry.path);
    }
    if let EntryKind::SymbolicLink { target } | EntryKind::HardLink { target } = &entry.kind
        && target.len() > FIELD
    {
        record(&mut records, b"linkpath", target);
    }
    if entry.size > 0o777_7777_7777 {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (key, owner) in [(&b"uid"[..], entry.user), (b"gid", entry.group)] {
        if owner > LARGEST_OWNER {
            record(&mut records, key, owner.to_string().as_bytes());
        }
    }
    for (key, value) in entry.records {
        record(&mut records, key.as_bytes(), value);
    }
    for (name, value) in entry.attributes {
        record(&mut records, &attribute_key(name), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
pub(super) fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
