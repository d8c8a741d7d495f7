//! The form of one record.
//!
//! ```text
//! magic u16 | kind u8 | zero u8 | body length u32 | sequence u64 | fence u64 | index u64 | term u64
//! | checksum of body u32 | header checksum of the record before u32 | checksum of this header u32 | sealed body
//! ```
//! Integers are little-endian, checksums CRC-32C. The header has a checksum of its own, so that a changed length is
//! never taken for the end of the log; it starts from the log's identity, so that records of another log do not pass.
//! The body is always sealed, also an empty one, with the header's meaning as associated data.

use bytes::Bytes;
use coracle_seal::KeyRing;

use crate::error::WalError;

/// Length of a record's header, in bytes.
pub(crate) const HEADER_BYTES: usize = 52;

/// Longest payload of a record, in bytes. Far above what a proposal may have.
pub(crate) const PAYLOAD_LIMIT: usize = 64 * 1024 * 1024;

const MAGIC: [u8; 2] = *b"\xC0\xA7";
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// Tells one log from another; random, drawn at creation.
pub(crate) type LogIdentity = [u8; 16];

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First record of each segment: all state that earlier segments left behind.
    Checkpoint,
    /// An entry.
    Entry,
    /// A new vote.
    Vote,
    /// How far entries are known to be committed. A hint; never waited for.
    Committed,
    /// Entries from `index` on are void.
    Truncate,
    /// Entries up to `index`, of `term`, are covered by a snapshot.
    Purge,
    /// The log, empty so far, begins at `index`.
    Begin,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Checkpoint => 1,
            Self::Entry => 2,
            Self::Vote => 3,
            Self::Committed => 4,
            Self::Truncate => 5,
            Self::Purge => 6,
            Self::Begin => 7,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Checkpoint, Self::Entry, Self::Vote, Self::Committed, Self::Truncate, Self::Purge, Self::Begin]
            .into_iter()
            .find(|kind| kind.to_byte() == byte)
    }
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Length of the sealed body, in bytes.
    pub(crate) body_length: u32,
    /// Number of this record in the log, consecutive over all segments.
    pub(crate) sequence: u64,
    /// Every record up to this sequence number was durable before this one was written.
    pub(crate) fence: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) body_checksum: u32,
    /// Checksum of the header before: records cannot be left out or swapped.
    pub(crate) previous: u32,
    /// Checksum of this header.
    pub(crate) checksum: u32,
}

impl Header {
    fn encode(&mut self, identity: &LogIdentity, out: &mut [u8; HEADER_BYTES]) {
        out[0..2].copy_from_slice(&MAGIC);
        out[2] = self.kind.to_byte();
        out[3] = 0;
        out[4..8].copy_from_slice(&self.body_length.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.fence.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.to_le_bytes());
        out[32..40].copy_from_slice(&self.term.to_le_bytes());
        out[40..44].copy_from_slice(&self.body_checksum.to_le_bytes());
        out[44..48].copy_from_slice(&self.previous.to_le_bytes());
        self.checksum = checksum(identity, &out[..CHECKED_BYTES]);
        out[48..52].copy_from_slice(&self.checksum.to_le_bytes());
    }

    /// Reads a header at the start of `bytes`; `None` unless its checksum fits.
    pub(crate) fn decode(identity: &LogIdentity, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        if bytes[0..2] != MAGIC {
            return None;
        }
        let found = checksum(identity, &bytes[..CHECKED_BYTES]);
        if u32_at(bytes, 48) != found || bytes[3] != 0 {
            return None;
        }
        Some(Self {
            kind: Kind::from_byte(bytes[2])?,
            body_length: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            fence: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
            term: u64_at(bytes, 32),
            body_checksum: u32_at(bytes, 40),
            previous: u32_at(bytes, 44),
            checksum: found,
        })
    }

    /// Length of header and body, in bytes.
    pub(crate) fn total_length(&self) -> usize {
        HEADER_BYTES + self.body_length as usize
    }

    /// What the sealed body is bound to.
    fn aad(&self, identity: &LogIdentity) -> [u8; 57] {
        let mut aad = [0; 57];
        aad[..16].copy_from_slice(b"coracle-wal-rec1");
        aad[16..32].copy_from_slice(identity);
        aad[32] = self.kind.to_byte();
        aad[33..41].copy_from_slice(&self.sequence.to_le_bytes());
        aad[41..49].copy_from_slice(&self.index.to_le_bytes());
        aad[49..57].copy_from_slice(&self.term.to_le_bytes());
        aad
    }
}

/// Where the next record goes in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Sequence number of the next record.
    pub(crate) sequence: u64,
    /// Checksum of the header before it; 0 before the first.
    pub(crate) previous: u32,
}

/// What the next record should say.
pub(crate) struct Content<'content> {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: &'content [u8],
}

/// Appends one record to `out` and moves `position` behind it.
pub(crate) fn append(
    ring: &KeyRing,
    identity: &LogIdentity,
    fence: u64,
    position: &mut Position,
    content: &Content<'_>,
    out: &mut Vec<u8>,
) -> Result<(), WalError> {
    let body_length = u32::try_from(content.payload.len() + coracle_seal::OVERHEAD).map_err(|_| {
        WalError::TooLarge { index: content.index, length: content.payload.len(), limit: PAYLOAD_LIMIT }
    })?;
    let mut header = Header {
        kind: content.kind,
        body_length,
        sequence: position.sequence,
        fence,
        index: content.index,
        term: content.term,
        body_checksum: 0,
        previous: position.previous,
        checksum: 0,
    };
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    ring.seal_into(&header.aad(identity), content.payload, out).map_err(WalError::seal(header.sequence))?;
    let (head, body) = out[start..].split_at_mut(HEADER_BYTES);
    header.body_checksum = crc32c::crc32c(body);
    if let Some(head) = head.first_chunk_mut::<HEADER_BYTES>() {
        header.encode(identity, head);
    }
    *position = Position { sequence: position.sequence + 1, previous: header.checksum };
    Ok(())
}

/// Checks and opens the body that belongs to `header`. `None` when the checksum does not fit.
pub(crate) fn open_body(
    ring: &KeyRing,
    identity: &LogIdentity,
    header: &Header,
    body: &[u8],
) -> Result<Option<Bytes>, WalError> {
    if crc32c::crc32c(body) != header.body_checksum {
        return Ok(None);
    }
    let plaintext = ring.open(&header.aad(identity), body).map_err(WalError::seal(header.sequence))?;
    Ok(Some(Bytes::from(plaintext)))
}

fn checksum(identity: &LogIdentity, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(identity), bytes)
}

/// Reads a little-endian number; the caller has checked that it lies inside.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// Reads a little-endian number; the caller has checked that it lies inside.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
