//! The data of files: with holes or without, and never more than the disk has room for.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

use crate::error::ImageError;
use crate::spool::check_space;

use super::super::sparse;
use super::Extractor;
use super::failure::Failure;

/// Bytes between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

impl Extractor<'_> {
    /// Writes what is between the holes of a sparse file of `size` bytes, of which `stored` are in the archive.
    pub(super) fn expand(
        &mut self,
        stored: u64,
        size: u64,
        data: &mut impl Read,
        file: &mut File,
    ) -> Result<(), Failure> {
        let read = |error| {
            let place = self.place.to_owned();
            ImageError::from_read(error, |source| ImageError::Input { place, source })
        };
        let map = sparse::read_map(data, stored, size).map_err(read)??;
        let failed = |error| ImageError::io("writing a file of", &self.path, error);
        file.set_len(size).map_err(failed)?;
        for (offset, length) in map {
            let failed = |error| ImageError::io("writing a file of", &self.path, error);
            file.seek(io::SeekFrom::Start(offset)).map_err(failed)?;
            self.copy(&mut data.by_ref().take(length), file)?;
        }
        Ok(())
    }

    /// Writes all of the data.
    pub(super) fn copy(&mut self, data: &mut dyn Read, file: &mut File) -> Result<(), Failure> {
        loop {
            let count = match data.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let place = self.place.to_owned();
                    return Err(
                        ImageError::from_read(error, |source| ImageError::Input { place, source }).into()
                    );
                }
            };
            self.unchecked_bytes += count as u64;
            if self.unchecked_bytes >= SPACE_CHECK_BYTES {
                self.unchecked_bytes = 0;
                check_space(self.root.as_fd(), &self.path, self.limits.disk_reserve_bytes)?;
            }
            file.write_all(&self.buffer[..count])
                .map_err(|error| ImageError::io("writing a file of", &self.path, error))?;
            self.report.bytes += count as u64;
        }
    }
}
