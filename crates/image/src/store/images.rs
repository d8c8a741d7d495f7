//! Whole images: completing, listing, naming, preparing.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;

use crate::document::config::{ConfigDocument, ImageConfig};
use crate::error::ImageError;

use super::ImageStore;
use super::records::{ImageRecord, LayerRecord};

/// What a container needs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedImage {
    /// Lower directories for overlayfs, the top one first; at least one, none twice.
    pub lower_dirs: Vec<PathBuf>,
    /// What the image says about running it.
    pub config: ImageConfig,
}

impl ImageStore {
    /// Whether the image is here completely: record, blobs with their sizes, unpacked layers.
    pub fn has(&self, manifest: Digest) -> bool {
        self.read_record(manifest).is_some_and(|record| self.is_complete(&record))
    }

    /// The record of a complete image.
    pub fn get(&self, manifest: Digest) -> Option<ImageRecord> {
        self.read_record(manifest).filter(|record| self.is_complete(record))
    }

    /// All complete images, by their first name, unnamed ones last.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the records cannot be listed.
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let mut records = self.read_records()?;
        records.retain(|record| self.is_complete(record));
        records.sort_by(|one, other| {
            let key = |record: &ImageRecord| {
                (record.names.is_empty(), record.names.first().cloned(), record.manifest)
            };
            key(one).cmp(&key(other))
        });
        Ok(records)
    }

    /// The complete image that has `name` here; a reference with a digest means that manifest, whatever its name.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the records cannot be listed.
    pub fn find(&self, name: &ImageReference) -> Result<Option<ImageRecord>, ImageError> {
        match name.digest() {
            Some(manifest) => Ok(self.get(manifest)),
            None => Ok(self.list()?.into_iter().find(|record| record.names.contains(name))),
        }
    }

    /// Gives a complete image one more name; the image that had it loses it.
    ///
    /// # Errors
    /// [`ImageError::ImageAbsent`] when the image is not here; [`ImageError::Io`] from the disk.
    pub fn tag(&self, manifest: Digest, name: &ImageReference) -> Result<ImageRecord, ImageError> {
        let mut record = self.get(manifest).ok_or(ImageError::ImageAbsent { manifest })?;
        record.names.push(name.without_digest());
        self.write_record(record)
    }

    /// Completes an image whose blobs have been received: checks that all are here, unpacks the layers that are not,
    /// verifying each, and registers the image under `names`. Safe to repeat.
    ///
    /// # Errors
    /// [`ImageError::MissingBlob`] names a blob to fetch; anything of class [`crate::ErrorClass::BadInput`] means that the image is not usable.
    pub fn finish_fetch(
        &self,
        manifest: Digest,
        names: &[ImageReference],
    ) -> Result<ImageRecord, ImageError> {
        let _adding = self.adding();
        self.complete(manifest, names)
    }

    /// What a container needs of an image.
    ///
    /// # Errors
    /// [`ImageError::ImageAbsent`] when it is not completely here; [`ImageError::Platform`] when it is for other machines.
    pub fn prepare(&self, manifest: Digest) -> Result<PreparedImage, ImageError> {
        let record = self.get(manifest).ok_or(ImageError::ImageAbsent { manifest })?;
        if !record.platform.runs_on(self.platform()) {
            return Err(ImageError::Platform {
                wanted: self.platform().clone(),
                offered: record.platform.to_string(),
            });
        }
        let config =
            ConfigDocument::parse(&self.read_document(record.config, "configuration")?, self.limits())?;
        let mut lower_dirs: Vec<PathBuf> = Vec::with_capacity(record.layers.len());
        for layer in record.layers.iter().rev() {
            let root = self.layer_root(layer.diff_id);
            // overlayfs refuses a directory given twice; what the lower one has, the upper one has too.
            if !lower_dirs.contains(&root) {
                lower_dirs.push(root);
            }
        }
        if lower_dirs.is_empty() {
            lower_dirs.push(self.path("empty"));
        }
        Ok(PreparedImage { lower_dirs, config: config.config })
    }

    fn is_complete(&self, record: &ImageRecord) -> bool {
        // The sizes of the two documents are not in the record: they are small and verified whenever they are read.
        self.blob_path(record.manifest).is_file()
            && self.blob_path(record.config).is_file()
            && record
                .layers
                .iter()
                .all(|layer| self.has_blob(layer.digest, layer.size) && self.has_layer(layer.diff_id))
    }

    /// As [`ImageStore::finish_fetch`], for callers that already keep the collector away.
    pub(crate) fn complete(
        &self,
        manifest: Digest,
        names: &[ImageReference],
    ) -> Result<ImageRecord, ImageError> {
        let (document, manifest_size) = self.read_manifest(manifest)?;
        for (blob, what) in document.blobs() {
            if !self.has_blob(blob.digest, blob.size) {
                return Err(ImageError::MissingBlob { digest: blob.digest, what });
            }
        }
        let config = self.read_document(document.config.digest, "configuration")?;
        let config = ConfigDocument::parse(&config, self.limits())?;
        if config.diff_ids.len() != document.layers.len() {
            let reason = format!(
                "it has {} layers, but its configuration names {}",
                document.layers.len(),
                config.diff_ids.len()
            );
            return Err(ImageError::document(format!("manifest {manifest}"), reason));
        }
        let mut layers = Vec::with_capacity(document.layers.len());
        for (blob, diff_id) in document.layers.iter().zip(config.diff_ids) {
            self.ensure_layer(blob.digest, diff_id)?;
            let media_type = blob.media_type.clone();
            layers.push(LayerRecord { digest: blob.digest, diff_id, size: blob.size, media_type });
        }
        let record = ImageRecord {
            manifest,
            config: document.config.digest,
            size: manifest_size + document.blobs().map(|(blob, _)| blob.size).sum::<u64>(),
            layers,
            platform: config.platform,
            names: names.iter().map(ImageReference::without_digest).collect(),
            loaded_at: now(),
        };
        self.write_record(record)
    }
}

/// Seconds since the epoch; only for showing.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
