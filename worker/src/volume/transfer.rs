//! Saving a volume as an archive, and making one of an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;

use coracle_crash_point::crash_point;
use coracle_image::Limits;
use coracle_image::tree::{PackError, TreeReport, pack, unpack};
use tokio_util::sync::CancellationToken;

use super::disk::{Record, io};
use super::store::check_name;
use super::{VolumeError, VolumeStore};

impl VolumeStore {
    /// Writes a tar archive of a volume to `sink`. It may be in use: what changes meanwhile is counted. While it is
    /// read it is neither removed nor replaced.
    ///
    /// # Errors
    /// If there is none, it cannot be read, the archive cannot be written, or `stop` was cancelled. What was written then has no
    /// end marker, and [`VolumeStore::restore`] refuses it.
    pub fn back_up(
        &self,
        name: &str,
        sink: impl Write,
        stop: &CancellationToken,
    ) -> Result<TreeReport, VolumeError> {
        let _reading = self.reading(name)?;
        let data = self.disk().data(name);
        let root = File::open(&data).map_err(|error| io("opening", &data, error))?;
        pack(root.as_fd(), sink, &|| stop.is_cancelled()).map_err(|error| match error {
            PackError::Stopped => VolumeError::Stopped(name.to_owned()),
            source => VolumeError::Backup { name: name.to_owned(), source },
        })
    }

    /// Makes a volume of a tar archive (plain, gzip or zstd), or replaces one that nobody uses, in one step when all of it is
    /// there: until then, and after an error, everything is as before. A reader that ends early must return an
    /// error.
    ///
    /// # Errors
    /// If there is one and it is not to be replaced, or it is in use; if the archive is refused, cut or cannot be read, or
    /// the disk is full.
    pub fn restore(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        replace: bool,
        source: impl Read,
    ) -> Result<TreeReport, VolumeError> {
        check_name(name)?;
        // Before all the work, too.
        self.check_replaceable(name, replace)?;
        let scratch = self.disk().scratch()?.that_goes_meanwhile();
        let place = format!("the archive for volume {name}");
        let report = unpack(source, &scratch.data(), &place, &Limits::for_trees())
            .map_err(|source| VolumeError::Restore { name: name.to_owned(), source })?;
        crash_point!("volume.restore.unpacked");
        let record = Record { labels: labels.clone(), created_at: self.now(), anonymous: false, owner: None };
        scratch.describe(&record, true)?;
        scratch.sync()?;
        let replaced = {
            let _lock = self.lock(name);
            let replaced = if self.check_replaceable(name, replace)? {
                Some(self.disk().replace(scratch, name)?)
            } else {
                self.disk().install(scratch, name, true)?;
                None
            };
            self.note(name, record);
            replaced
        };
        drop(replaced);
        Ok(report)
    }

    /// Whether there is one, which may be replaced.
    fn check_replaceable(&self, name: &str, replace: bool) -> Result<bool, VolumeError> {
        match self.check_usable(name)? {
            false => self.check_room().map(|()| false),
            true if replace => self.check_free(name).map(|()| true),
            true => Err(VolumeError::Exists(name.to_owned())),
        }
    }
}
