//! Reads entries one after the other from a stream of unknown length and intent.

use std::io::{self, Read};

use crate::error::{ImageError, LimitKind, Refusal, printable};
use crate::limits::Limits;

use super::BLOCK;
use super::extended::{Extended, check_global};
use super::header::Header;

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    SymbolicLink { target: Vec<u8> },
    HardLink { target: Vec<u8> },
    Device,
    Fifo,
}

/// One entry as the archive states it; nothing is validated beyond the format itself.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Bytes of data that follow; zero unless a file.
    pub(crate) size: u64,
    /// Bytes with its holes, when it is a sparse file: its data begins with a map then.
    pub(crate) sparse: Option<u64>,
    /// Permission bits with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) group: u64,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) modified: (i64, u32),
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// It has access control lists as text only, and not as attributes.
    pub(crate) has_text_lists: bool,
}

/// What extension headers have announced for the next entry.
#[derive(Default)]
struct Pending {
    extended: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// Reads a tar archive from `R`. As a reader itself it gives the data of the current entry.
pub(crate) struct TarReader<R> {
    source: R,
    place: String,
    /// Bytes read so far.
    offset: u64,
    /// Data bytes of the current entry still unread.
    remaining: u64,
    /// Padding after them.
    padding: u64,
    extended_header_bytes: u64,
    sparse_is_allowed: bool,
    done: bool,
    /// The end marker was there.
    is_marked: bool,
}

impl<R: Read> TarReader<R> {
    /// `place` names the archive in errors.
    pub(crate) fn new(source: R, place: &str, limits: &Limits) -> Self {
        Self {
            source,
            place: place.to_owned(),
            offset: 0,
            remaining: 0,
            padding: 0,
            extended_header_bytes: limits.extended_header_bytes,
            sparse_is_allowed: false,
            done: false,
            is_marked: false,
        }
    }

    /// Sparse files in GNU's format 1.0 are entries too, not refused. For trees, where holes are worth keeping; in layers
    /// they are only something that parsers disagree about.
    pub(crate) fn with_sparse_files(mut self) -> Self {
        self.sparse_is_allowed = true;
        self
    }

    /// Whether the archive had its end marker; without one, nothing says that it is whole.
    pub(crate) fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// The next entry, skipping what is unread of the current one; nothing at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, ImageError> {
        let mut pending = Pending::default();
        while let Some(header) = self.next_header(pending.is_empty())? {
            if let Some(entry) = self.take_header(header, &mut pending)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Reads to the end of the stream (archives are padded after their end marker) and gives the source back.
    pub(crate) fn drain(mut self) -> Result<R, ImageError> {
        let mut rest = [0; 8192];
        while self.read_some(&mut rest)? > 0 {}
        Ok(self.source)
    }

    /// Consumes an extension header, or makes an entry of anything else.
    fn take_header(&mut self, header: Header, pending: &mut Pending) -> Result<Option<Entry>, ImageError> {
        let twice = "two extended headers of one kind for one entry";
        match header.type_flag {
            b'x' => {
                let data = self.read_extension(header.size)?;
                let extended = Extended::parse(&data).map_err(|reason| self.malformed(reason))?;
                if pending.extended.replace(extended).is_some() {
                    return Err(self.malformed(twice));
                }
            }
            b'g' => {
                let data = self.read_extension(header.size)?;
                check_global(&data).map_err(|reason| self.malformed(reason))?;
            }
            b'L' => {
                let name = self.read_long_text(header.size)?;
                if pending.long_name.replace(name).is_some() {
                    return Err(self.malformed(twice));
                }
            }
            b'K' => {
                let name = self.read_long_text(header.size)?;
                if pending.long_link.replace(name).is_some() {
                    return Err(self.malformed(twice));
                }
            }
            _ => return self.make_entry(header, std::mem::take(pending)).map(Some),
        }
        Ok(None)
    }

    fn make_entry(&mut self, header: Header, pending: Pending) -> Result<Entry, ImageError> {
        let extended = pending.extended.unwrap_or_default();
        let both = (extended.path.is_some() && pending.long_name.is_some())
            || (extended.link.is_some() && pending.long_link.is_some());
        if both {
            return Err(self.malformed("a GNU and a PAX long name for one entry"));
        }
        let size = self.agreed_size(header.size, extended.size)?;
        let has_text_lists = extended.has_text_lists();
        let mut path = extended.path.or(pending.long_name).unwrap_or(header.path);
        let target = extended.link.or(pending.long_link).unwrap_or(header.link);
        let refuse = |path: &[u8], refusal| {
            Err(ImageError::Entry { place: self.place.clone(), entry: printable(path), refusal })
        };
        let mut sparse = None;
        if extended.sparse || header.type_flag == b'S' {
            let is_readable = self.sparse_is_allowed && matches!(header.type_flag, b'0' | 0);
            let Some((name, size)) = extended.sparse_file.expanded().filter(|_| is_readable) else {
                return refuse(&path, Refusal::Sparse);
            };
            path = name;
            sparse = Some(size);
        }
        let kind = match header.type_flag {
            // Writers from before 1988 mark directories by their trailing slash.
            b'0' | 0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 => EntryKind::File,
            b'1' => EntryKind::HardLink { target },
            b'2' => EntryKind::SymbolicLink { target },
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return refuse(&path, Refusal::UnknownType(char::from(other))),
        };
        // Readers disagree about whether such data is there at all.
        if kind != EntryKind::File && size > 0 {
            return refuse(&path, Refusal::UnexpectedData(size));
        }
        self.remaining = size;
        self.padding = padding(size);
        Ok(Entry {
            path,
            kind,
            size,
            sparse,
            mode: header.mode,
            user: extended.user.unwrap_or(header.user),
            group: extended.group.unwrap_or(header.group),
            modified: extended.modified.unwrap_or((header.modified, 0)),
            has_text_lists,
            attributes: extended.attributes,
        })
    }

    /// The size both headers agree on. A record may only speak alone where the field cannot hold the number.
    fn agreed_size(&self, field: u64, record: Option<u64>) -> Result<u64, ImageError> {
        const LARGEST_FIELD: u64 = 0o777_7777_7777;
        match record {
            None => Ok(field),
            Some(record) if record == field || record > LARGEST_FIELD => Ok(record),
            Some(record) => {
                Err(self.malformed(format!("header says {field} bytes, its extended header {record}")))
            }
        }
    }

    /// The next header block after the current entry; nothing at the end marker or the end of the stream.
    fn next_header(&mut self, end_is_allowed: bool) -> Result<Option<Header>, ImageError> {
        if self.done {
            return Ok(None);
        }
        self.skip(self.remaining + self.padding)?;
        (self.remaining, self.padding) = (0, 0);
        let block = match self.read_block()? {
            Some(block) if !is_zero(&block) => block,
            Some(_) => return self.end_marker(end_is_allowed),
            None if end_is_allowed => {
                self.done = true;
                return Ok(None);
            }
            None => return Err(self.malformed("it ends after an extended header")),
        };
        Header::parse(&block).map(Some).map_err(|reason| self.malformed(reason))
    }

    /// After one block of zeros there is another one, or nothing.
    fn end_marker(&mut self, end_is_allowed: bool) -> Result<Option<Header>, ImageError> {
        if !end_is_allowed {
            return Err(self.malformed("it ends after an extended header"));
        }
        match self.read_block()? {
            Some(block) if !is_zero(&block) => Err(self.malformed("entries follow a block of zeros")),
            Some(_) | None => {
                self.done = true;
                self.is_marked = true;
                Ok(None)
            }
        }
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, ImageError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.malformed("it ends inside a header")),
                count => filled += count,
            }
        }
        Ok(Some(block))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        if size > self.extended_header_bytes {
            return Err(ImageError::limit(
                &*self.place,
                LimitKind::ExtendedHeaderBytes,
                self.extended_header_bytes,
            ));
        }
        (self.remaining, self.padding) = (size, padding(size));
        // The size is bounded above, so a lie about it costs at most that much memory.
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        let mut filled = 0;
        while filled < data.len() {
            match self.read_data(&mut data[filled..])? {
                0 => return Err(self.malformed("it ends inside an extended header")),
                count => filled += count,
            }
        }
        Ok(data)
    }

    /// A GNU long name: text up to its first NUL.
    fn read_long_text(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        let data = self.read_extension(size)?;
        Ok(data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), ImageError> {
        let mut rest = [0; 8192];
        while bytes > 0 {
            let wanted = usize::try_from(bytes).unwrap_or(rest.len()).min(rest.len());
            match self.read_some(&mut rest[..wanted])? {
                0 => return Err(self.malformed("it ends inside the data of an entry")),
                count => bytes -= count as u64,
            }
        }
        Ok(())
    }

    /// Data of the current entry; zero bytes only at its end.
    fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(buffer.len()).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.read_some(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(self.malformed("it ends inside the data of an entry"));
        }
        self.remaining -= count as u64;
        Ok(count)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        loop {
            match self.source.read(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let place = self.place.clone();
                    return Err(ImageError::from_read(error, |source| ImageError::Input { place, source }));
                }
            }
        }
    }

    /// The archive is at fault where it was read last.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> ImageError {
        ImageError::Tar { place: self.place.clone(), reason: reason.into(), offset: self.offset }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_data(buffer).map_err(ImageError::into_io)
    }
}

/// Bytes from `size` to the next whole block.
fn padding(size: u64) -> u64 {
    const BLOCK_BYTES: u64 = BLOCK as u64;
    (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}
