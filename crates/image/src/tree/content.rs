//! The data of files that somebody may be changing while they are packed.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::tar::BLOCK;
use crate::unpack::sparse::{Map, PIECES};

/// Tells failures to read from failures to write, and when to stop.
pub(super) struct Source<'a> {
    pub(super) data: &'a mut dyn Read,
    pub(super) failure: Option<io::Error>,
    pub(super) given: u64,
    pub(super) is_stopped: &'a dyn Fn() -> bool,
    pub(super) stopped: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            self.stopped = true;
            return Err(io::Error::other("stopped"));
        }
        match self.data.read(buffer) {
            Ok(count) => {
                self.given += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("reading failed"))
            }
        }
    }
}

/// The data of a sparse file, piece after piece; a piece that is shorter by now is made up with zeros.
pub(super) struct Pieces<'a> {
    pub(super) file: &'a File,
    pub(super) map: std::vec::IntoIter<(u64, u64)>,
    pub(super) left: u64,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.map.next() else { return Ok(0) };
            seek(self.file, SeekFrom::Start(offset))?;
            self.left = length;
        }
        let wanted = usize::try_from(self.left).unwrap_or(buffer.len()).min(buffer.len());
        let mut count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            buffer[..wanted].fill(0);
            count = wanted;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Where data is in a file with holes; nothing for one without.
pub(super) fn pieces(file: &File, size: u64) -> io::Result<Option<Map>> {
    let mut map = Map::new();
    let mut at = 0;
    let mut data = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            // No data until the end; or the file system knows of no holes.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                map = vec![(0, size)];
                data = size;
                break;
            }
            result => result?.min(size),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Err(Errno::NXIO) => break,
            result => result?.min(size),
        };
        let end = if map.len() as u64 + 2 >= PIECES { size } else { end };
        if end <= start {
            break;
        }
        map.push((start, end - start));
        data += end - start;
        at = end;
    }
    seek(file, SeekFrom::Start(0))?;
    // What is saved by less would be spent on the map.
    if size - data.min(size) < 2 * BLOCK as u64 {
        return Ok(None);
    }
    // Readers take the end of the file from its last piece.
    if map.last().is_none_or(|(offset, length)| offset + length < size) {
        map.push((size, 0));
    }
    Ok(Some(map))
}
