//! Writing and reading one snapshot file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
    file: File,
    ring: KeyRing,
    chain: Chain,
    buffer: Vec<u8>,
    length: u64,
}

impl SnapshotWriter {
    /// Creates the file at `path`, which must not exist.
    pub(crate) fn create(path: &Path, ring: &KeyRing, meta: &SnapshotMeta) -> io::Result<Self> {
        let mut identity = [0; 16];
        rand::fill(&mut identity);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&identity)?;
        let chain = Chain { identity, next: 0 };
        let mut writer =
            Self { file, ring: ring.clone(), chain, buffer: Vec::with_capacity(SNAPSHOT_CHUNK), length: 0 };
        writer.part(Kind::Meta, &wire::snapshot_meta_to_wire(meta).encode_to_vec())?;
        Ok(writer)
    }

    /// Writes the end and makes the file durable. Returns the length of its content, in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.chunk()?;
        let length = self.length;
        self.part(Kind::End, &length.to_le_bytes())?;
        self.file.sync_all()?;
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
        self.file.write_all(&[kind as u8])?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&sealed)
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
    file: BufReader<File>,
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
    pub(crate) fn open(path: &Path, ring: &KeyRing) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        if &header[..4] != MAGIC {
            return Err(damaged("it does not start like a snapshot"));
        }
        if header[4..8] != VERSION.to_le_bytes() {
            return Err(damaged(
                "its format version is unknown; use the program that wrote it or a newer one",
            ));
        }
        let mut identity = [0; 16];
        identity.copy_from_slice(&header[8..]);
        let mut reader = Self {
            file,
            ring: ring.clone(),
            chain: Chain { identity, next: 0 },
            meta: SnapshotMeta::default(),
            chunk: Vec::new(),
            used: 0,
            length: 0,
            ended: false,
        };
        match reader.part()? {
            (Kind::Meta, bytes) => {
                let meta = v1::RaftSnapshotMeta::decode(bytes.as_slice())
                    .map_err(|_| damaged("its head is malformed"))?;
                reader.meta = wire::snapshot_meta_from_wire(meta)?;
            }
            _ => return Err(damaged("its head is missing")),
        }
        Ok(reader)
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
                if self.file.read(&mut [0])? != 0 {
                    return Err(damaged("something follows its end"));
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(damaged("its parts are not in order")),
        }
    }

    /// Reads to the end, so that all of it is checked. Returns the length of the content read so far, in bytes.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        while self.next_chunk()?.is_some() {}
        Ok(self.length)
    }

    fn part(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut head = [0; 5];
        self.file.read_exact(&mut head)?;
        let kind = [Kind::Meta, Kind::Chunk, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == head[0])
            .ok_or_else(|| damaged("it has a part of unknown kind"))?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > 2 * SNAPSHOT_CHUNK {
            return Err(damaged("it has a part that is too long"));
        }
        let mut sealed = vec![0; length];
        self.file.read_exact(&mut sealed)?;
        let content = self
            .ring
            .open(&self.chain.aad(kind), &sealed)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((kind, content))
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

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::raft::types::{StoredMembership, log_id};

    fn write(path: &Path, ring: &KeyRing, content: &[u8]) {
        let meta =
            SnapshotMeta { last_log_id: Some(log_id(3, 17)), last_membership: StoredMembership::default() };
        let mut writer = SnapshotWriter::create(path, ring, &meta).unwrap();
        writer.write_all(content).unwrap();
        assert_eq!(writer.finish().unwrap(), content.len() as u64);
    }

    #[test]
    fn a_snapshot_is_read_back_over_several_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let ring = KeyRing::in_memory().unwrap();
        let path = directory.path().join("snapshot");
        let content: Vec<u8> = (0..3 * SNAPSHOT_CHUNK + 5).map(|at| (at % 251) as u8).collect();
        write(&path, &ring, &content);
        let mut reader = SnapshotReader::open(&path, &ring).unwrap();
        assert_eq!(reader.meta().last_log_id, Some(log_id(3, 17)));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == content);
        reader.finish().unwrap();
    }

    #[test]
    fn every_change_is_noticed_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let ring = KeyRing::in_memory().unwrap();
        let path = directory.path().join("snapshot");
        write(&path, &ring, b"content of the snapshot");
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            SnapshotReader::open(&path, &ring).and_then(SnapshotReader::finish)
        };
        assert!(check(&whole).is_ok());
        for position in 0..whole.len() {
            assert!(check(&whole[..position]).is_err(), "cut at {position}");
            let mut changed = whole.clone();
            changed[position] ^= 0x10;
            assert!(check(&changed).is_err(), "byte {position}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(check(&longer).is_err());
    }
}
