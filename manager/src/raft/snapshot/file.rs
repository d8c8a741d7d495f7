//! Writing and reading one snapshot file.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_disk::{Storage, StorageFile};
use coracle_proto::v1;
use coracle_seal::KeyRing;
use prost::Message as _;

use crate::raft::settings::SNAPSHOT_CHUNK;
use crate::raft::types::SnapshotMeta;
use crate::raft::wire;

const MAGIC: &[u8; 4] = b"CRSN";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 4 + 4 + 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Meta = 1,
    Chunk = 2,
    End = 3,
}

/// Binds parts to their file and place.
#[derive(Debug)]
struct Chain {
    identity: [u8; 16],
    next: u64,
}

impl Chain {
    fn aad(&mut self, kind: Kind) -> Vec<u8> {
        let mut aad = b"coracle snapshot 1".to_vec();
        aad.extend_from_slice(&self.identity);
        aad.extend_from_slice(&self.next.to_le_bytes());
        aad.push(kind as u8);
        self.next += 1;
        aad
    }
}

/// Writes a snapshot file.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    file: Arc<dyn StorageFile>,
    /// Where the next byte goes.
    offset: u64,
    ring: KeyRing,
    chain: Chain,
    buffer: Vec<u8>,
    length: u64,
}

impl SnapshotWriter {
    /// Creates the file `name`, which must not exist.
    pub(crate) fn create(
        storage: &dyn Storage,
        name: &str,
        ring: &KeyRing,
        meta: &SnapshotMeta,
    ) -> io::Result<Self> {
        let mut identity = [0; 16];
        rand::fill(&mut identity);
        let mut writer = Self {
            file: storage.create(name)?,
            offset: 0,
            ring: ring.clone(),
            chain: Chain { identity, next: 0 },
            buffer: Vec::with_capacity(SNAPSHOT_CHUNK),
            length: 0,
        };
        writer.put(&[MAGIC, VERSION.to_le_bytes().as_slice(), &identity].concat())?;
        writer.part(Kind::Meta, &wire::snapshot_meta_to_wire(meta).encode_to_vec())?;
        Ok(writer)
    }

    /// Writes the end and makes the file durable. Returns the length of its content, in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.chunk()?;
        let length = self.length;
        self.part(Kind::End, &length.to_le_bytes())?;
        coracle_crash_point::crash_point!("snapshot.build.before-sync");
        self.file.sync_data()?;
        Ok(length)
    }

    fn chunk(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.buffer);
        self.part(Kind::Chunk, &chunk)?;
        self.buffer = chunk;
        self.buffer.clear();
        Ok(())
    }

    fn part(&mut self, kind: Kind, content: &[u8]) -> io::Result<()> {
        let sealed = self.ring.seal(&self.chain.aad(kind), content).map_err(io::Error::other)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.put(&[kind as u8])?;
        self.put(&length.to_le_bytes())?;
        self.put(&sealed)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SNAPSHOT_CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.length += taken as u64;
        if self.buffer.len() == SNAPSHOT_CHUNK {
            self.chunk()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a snapshot file. Nothing is to be believed before the end was read.
#[derive(Debug)]
pub(crate) struct SnapshotReader {
    file: Arc<dyn StorageFile>,
    /// For telling an operator.
    path: PathBuf,
    /// Where the next part begins.
    offset: u64,
    ring: KeyRing,
    chain: Chain,
    meta: SnapshotMeta,
    chunk: Vec<u8>,
    /// How much of the chunk was read.
    used: usize,
    length: u64,
    ended: bool,
}

impl SnapshotReader {
    pub(crate) fn open(storage: &dyn Storage, name: &str, ring: &KeyRing) -> io::Result<Self> {
        let mut reader = Self {
            file: storage.open(name)?,
            path: storage.path().join(name),
            offset: 0,
            ring: ring.clone(),
            chain: Chain { identity: [0; 16], next: 0 },
            meta: SnapshotMeta::default(),
            chunk: Vec::new(),
            used: 0,
            length: 0,
            ended: false,
        };
        reader.header()?;
        match reader.part()? {
            (Kind::Meta, bytes) => {
                let meta = v1::RaftSnapshotMeta::decode(bytes.as_slice())
                    .map_err(|_| reader.damaged("its head is malformed"))?;
                reader.meta = wire::snapshot_meta_from_wire(meta)?;
            }
            _ => return Err(reader.damaged("its head is missing")),
        }
        Ok(reader)
    }

    fn header(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        self.take(&mut header)?;
        if &header[..4] != MAGIC {
            return Err(self.damaged("it does not start like a snapshot"));
        }
        if header[4..8] != VERSION.to_le_bytes() {
            return Err(self.damaged("its format version is unknown, unless a newer program wrote it"));
        }
        self.chain.identity.copy_from_slice(&header[8..]);
        Ok(())
    }

    /// What the snapshot covers.
    pub(crate) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The next piece of content, at most [`SNAPSHOT_CHUNK`] bytes; `None` at the end, which is then checked.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        match self.part()? {
            (Kind::Chunk, bytes) if !bytes.is_empty() => {
                self.length += bytes.len() as u64;
                Ok(Some(bytes))
            }
            (Kind::End, bytes) if bytes == self.length.to_le_bytes() => {
                if self.file.length()? != self.offset {
                    return Err(self.damaged("something follows its end"));
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(self.damaged("its parts are not in order")),
        }
    }

    /// Reads to the end, so that all of it is checked. Returns the length of the content read so far, in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        while self.next_chunk()?.is_some() {}
        Ok(self.length)
    }

    fn part(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut head = [0; 5];
        self.take(&mut head)?;
        let kind = [Kind::Meta, Kind::Chunk, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == head[0])
            .ok_or_else(|| self.damaged("it has a part of unknown kind"))?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > 2 * SNAPSHOT_CHUNK {
            return Err(self.damaged("it has a part that is too long"));
        }
        let mut sealed = vec![0; length];
        self.take(&mut sealed)?;
        let content = self.ring.open(&self.chain.aad(kind), &sealed).map_err(|error| self.damaged(error))?;
        Ok((kind, content))
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(self.offset, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it is cut off"),
            _ => error,
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn damaged(&self, what: impl Display) -> io::Error {
        let path = self.path.display();
        io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {path} is damaged: {what}"))
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            self.chunk = self.next_chunk()?.unwrap_or_default();
            self.used = 0;
        }
        let taken = buffer.len().min(self.chunk.len() - self.used);
        buffer[..taken].copy_from_slice(&self.chunk[self.used..self.used + taken]);
        self.used += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
