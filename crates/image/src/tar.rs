//! A small, strict tar format: what layers and image archives use, and nothing that parsers disagree about.
//!
//! Read: POSIX ustar and PAX (POSIX.1-2001, "pax interchange format"), GNU long names, base-256 numbers. Refused: sparse files,
//! unknown types, sizes on entries without data, an extended size that contradicts the header, names given twice.
//! Written: ustar, with PAX records where ustar cannot say it.

pub(crate) mod extended;
pub(crate) mod header;
pub(crate) mod reader;
pub(crate) mod writer;

pub(crate) use reader::{Entry, EntryKind, TarReader};
pub(crate) use writer::{NewEntry, TarWriter};

/// Bytes of a block; headers are one block and data is padded to whole blocks.
pub(crate) const BLOCK: usize = 512;
