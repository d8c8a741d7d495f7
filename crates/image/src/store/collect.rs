//! Removing what nothing refers to, and counting bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_model::digest::Digest;

use crate::document::config::ConfigDocument;
use crate::error::ImageError;

use super::ImageStore;
use super::layers::remove_grave;

/// What a collection removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Unpacked layers removed.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Bytes the store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Complete images.
    pub images: u64,
    /// Bytes of blobs.
    pub blob_bytes: u64,
    /// Bytes of file data in unpacked layers.
    pub layer_bytes: u64,
    /// Bytes of both that no image refers to.
    pub reclaimable_bytes: u64,
}

/// What is referred to.
#[derive(Default)]
struct Live {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

impl ImageStore {
    /// Removes blobs and layers that belong neither to a record nor to a manifest of `keep`: those of running containers
    /// and of fetches under way. Waits for loads that are under way.
    ///
    /// # Errors
    /// [`ImageError::Io`] from the disk; what was removed until then stays removed.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> Result<Collected, ImageError> {
        let (collected, graves) = self.bury(keep)?;
        // There may be much in them: by now nobody waits for that.
        graves.iter().try_for_each(|grave| remove_grave(grave))?;
        Ok(collected)
    }

    /// Removes the blobs, and takes their places from the layers: returns where they are now.
    fn bury(&self, keep: &BTreeSet<Digest>) -> Result<(Collected, Vec<PathBuf>), ImageError> {
        let _collecting = self.collecting();
        let _changing = self.changing();
        let live = self.live(keep)?;
        let mut collected = Collected::default();
        let mut graves = Vec::new();
        self.each_blob(|path, digest, size| {
            if digest.is_some_and(|digest| live.blobs.contains(&digest)) {
                return Ok(());
            }
            fs::remove_file(path).map_err(|error| ImageError::io("removing", path, error))?;
            collected.blobs += 1;
            collected.bytes += size;
            Ok(())
        })?;
        self.each_layer(|path, digest| {
            if digest.is_some_and(|digest| live.layers.contains(&digest)) {
                return Ok(());
            }
            collected.bytes += digest.and_then(|digest| self.layer_bytes(digest)).unwrap_or_default();
            collected.layers += 1;
            graves.extend(self.bury_tree(path)?);
            Ok(())
        })?;
        if collected != Collected::default() {
            tracing::info!(
                blobs = collected.blobs,
                layers = collected.layers,
                bytes = collected.bytes,
                "collected image content"
            );
        }
        Ok((collected, graves))
    }

    /// Every image that there is a record of, complete or not.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the records cannot be listed.
    pub fn known(&self) -> Result<BTreeSet<Digest>, ImageError> {
        Ok(self.read_records()?.into_iter().map(|record| record.manifest).collect())
    }

    /// Forgets the images of `unwanted`, except those that were loaded or fetched within the `grace` (also again). Their
    /// content stays until it is collected. Returns how many they were.
    ///
    /// # Errors
    /// [`ImageError::Io`] from the disk; what was forgotten until then stays forgotten.
    pub fn forget(&self, unwanted: &BTreeSet<Digest>, grace: Duration) -> Result<u64, ImageError> {
        let mut forgotten = 0;
        for manifest in unwanted {
            if !self.was_completed_within(*manifest, grace) {
                forgotten += u64::from(self.remove_record(*manifest)?);
            }
        }
        // Once for all: nobody can begin to use an image meanwhile.
        if forgotten > 0 {
            self.sync_records()?;
        }
        Ok(forgotten)
    }

    /// Bytes the store uses.
    ///
    /// # Errors
    /// [`ImageError::Io`] when directories cannot be listed.
    pub fn disk_usage(&self) -> Result<DiskUsage, ImageError> {
        let live = self.live(&BTreeSet::new())?;
        let mut usage = DiskUsage { images: self.list()?.len() as u64, ..DiskUsage::default() };
        self.each_blob(|_, digest, size| {
            usage.blob_bytes += size;
            if digest.is_none_or(|digest| !live.blobs.contains(&digest)) {
                usage.reclaimable_bytes += size;
            }
            Ok(())
        })?;
        self.each_layer(|_, digest| {
            let bytes = digest.and_then(|digest| self.layer_bytes(digest)).unwrap_or_default();
            usage.layer_bytes += bytes;
            if digest.is_none_or(|digest| !live.layers.contains(&digest)) {
                usage.reclaimable_bytes += bytes;
            }
            Ok(())
        })?;
        Ok(usage)
    }

    fn live(&self, keep: &BTreeSet<Digest>) -> Result<Live, ImageError> {
        let mut live = Live::default();
        for record in self.read_records()? {
            live.blobs.extend([record.manifest, record.config]);
            live.blobs.extend(record.layers.iter().map(|layer| layer.digest));
            live.layers.extend(record.layers.iter().map(|layer| layer.diff_id));
        }
        for manifest in keep {
            self.add_manifest(&mut live, *manifest);
        }
        Ok(live)
    }

    /// As far as the documents of a kept manifest are here (a fetch may have only begun), what they name is live.
    fn add_manifest(&self, live: &mut Live, manifest: Digest) {
        live.blobs.insert(manifest);
        let Ok((document, _)) = self.read_manifest(manifest) else { return };
        live.blobs.extend(document.blobs().map(|(blob, _)| blob.digest));
        let Ok(config) = self.read_document(document.config.digest, "configuration") else { return };
        if let Ok(config) = ConfigDocument::parse(&config, self.limits()) {
            live.layers.extend(config.diff_ids);
        }
    }

    /// Visits every blob file; the digest is missing for names that are none.
    fn each_blob(
        &self,
        mut visit: impl FnMut(&Path, Option<Digest>, u64) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        for_each_entry(&self.path("blobs/sha256"), |path, digest| {
            let size = fs::metadata(path).map_or(0, |found| found.len());
            visit(path, digest, size)
        })
    }

    /// Visits every layer directory; the digest is missing for names that are none.
    fn each_layer(
        &self,
        visit: impl FnMut(&Path, Option<Digest>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        for_each_entry(&self.path("layers"), visit)
    }
}

fn for_each_entry(
    directory: &Path,
    mut visit: impl FnMut(&Path, Option<Digest>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let failed = |error| ImageError::io("listing", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
        visit(&entry.path(), digest)?;
    }
    Ok(())
}
