//! Segment files: names, header, and the checkpoint record each one starts with.
//!
//! ```text
//! "CRWL" | version u32 | log identity 16 bytes | segment number u64 | first sequence u64
//! | header checksum of the last record before u32 | key id u32 | checksum u32
//! ```
//! The checkpoint that follows repeats what earlier segments left behind (vote, committed, purged, next index), so that
//! these can be removed once a snapshot covers their entries.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::Purged;
use crate::error::WalError;
use crate::record::{LogIdentity, Position, u32_at, u64_at};

/// Length of a segment's header, in bytes.
pub(crate) const HEADER_BYTES: usize = 52;

const MAGIC: &[u8; 4] = b"CRWL";
const VERSION: u32 = 1;
const SUFFIX: &str = ".wal";

/// The name of segment `number`.
pub(crate) fn name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

/// The number in a segment's name; `None` for other files.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: LogIdentity,
    pub(crate) number: u64,
    /// Where the chain of records stands at its start.
    pub(crate) start: Position,
    /// The data key that was current then, for finding out which keys are still needed.
    pub(crate) key_id: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(MAGIC);
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.identity);
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.start.sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.start.previous.to_le_bytes());
        out[44..48].copy_from_slice(&self.key_id.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..48]);
        out[48..52].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header; `Ok(None)` unless its checksum fits.
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Option<Self>, WalError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if &bytes[0..4] != MAGIC || u32_at(bytes, 48) != crc32c::crc32c(&bytes[..48]) {
            return Ok(None);
        }
        let found = u32_at(bytes, 4);
        if found > VERSION {
            return Err(WalError::NewerFormat { file: name.to_owned(), found, supported: VERSION });
        }
        let mut identity = LogIdentity::default();
        identity.copy_from_slice(&bytes[8..24]);
        Ok(Some(Self {
            identity,
            number: u64_at(bytes, 24),
            start: Position { sequence: u64_at(bytes, 32), previous: u32_at(bytes, 40) },
            key_id: u32_at(bytes, 44),
        }))
    }
}

/// The state of the log besides its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) purged: Option<Purged>,
    /// Index of the entry to be appended next.
    pub(crate) next_index: u64,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64_le(self.next_index);
        put_optional(&mut out, self.vote.as_ref());
        put_optional(&mut out, self.committed.as_ref());
        match &self.purged {
            None => out.put_u8(0),
            Some(purged) => {
                out.put_u8(1);
                out.put_u64_le(purged.index);
                out.put_u64_le(purged.term);
            }
        }
        out
    }

    /// Reads a checkpoint; `None` when it is malformed.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let next_index = bytes.try_get_u64_le().ok()?;
        let vote = get_optional(&mut bytes)?;
        let committed = get_optional(&mut bytes)?;
        let purged = match bytes.try_get_u8().ok()? {
            0 => None,
            1 => Some(Purged { index: bytes.try_get_u64_le().ok()?, term: bytes.try_get_u64_le().ok()? }),
            _ => return None,
        };
        bytes.is_empty().then_some(Self { vote, committed, purged, next_index })
    }
}

fn put_optional(out: &mut Vec<u8>, value: Option<&Bytes>) {
    match value {
        None => out.put_u8(0),
        Some(value) => {
            out.put_u8(1);
            // Votes and log ids are a few bytes; a record's own length limit is far below u32.
            out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
            out.put_slice(value);
        }
    }
}

fn get_optional(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    match bytes.try_get_u8().ok()? {
        0 => Some(None),
        1 => {
            let length = bytes.try_get_u32_le().ok()? as usize;
            (bytes.len() >= length).then(|| Some(bytes.split_to(length)))
        }
        _ => None,
    }
}
