//! Records: one small file per complete image.

use std::fs;
use std::io;
use std::path::PathBuf;

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::document::manifest::{digest_text, to_json};
use crate::document::platform::Platform;
use crate::error::ImageError;
use crate::spool::sync_directory;

use super::ImageStore;

/// A layer of an image, as transferred and as unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of the blob.
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// The digest of the uncompressed archive.
    #[serde(with = "digest_text")]
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// What the manifest says the blob is.
    pub media_type: String,
}

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the manifest: the image's identity everywhere in the cluster.
    #[serde(with = "digest_text")]
    pub manifest: Digest,
    /// The digest of the configuration, which other engines call the image id.
    #[serde(with = "digest_text")]
    pub config: Digest,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    /// Bytes of manifest, configuration and layers as transferred.
    pub size: u64,
    /// What it runs on.
    pub platform: Platform,
    /// Names given to it on this node.
    #[serde(with = "names_text")]
    pub names: Vec<ImageReference>,
    /// When it was first complete here, in seconds since the epoch.
    pub loaded_at: u64,
}

/// Names in their full form.
mod names_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        names: &[ImageReference],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(ImageReference::canonical))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<ImageReference>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

impl ImageStore {
    fn record_path(&self, manifest: Digest) -> PathBuf {
        self.path("images").join(format!("{}.json", manifest.hex()))
    }

    /// The record as stored; a damaged one counts as none, because loading or fetching the image writes it again.
    pub(crate) fn read_record(&self, manifest: Digest) -> Option<ImageRecord> {
        let path = self.record_path(manifest);
        let text = fs::read(&path).ok()?;
        match serde_json::from_slice::<ImageRecord>(&text) {
            Ok(record) if record.manifest == manifest => Some(record),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring a damaged image record");
                None
            }
        }
    }

    /// Every record that can be read, complete or not.
    pub(crate) fn read_records(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let path = self.path("images");
        let failed = |error| ImageError::io("listing", &path, error);
        let mut records = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(".json")).map(Digest::from_hex);
            if let Some(Ok(digest)) = digest {
                records.extend(self.read_record(digest));
            }
        }
        Ok(records)
    }

    /// Writes a record; a name belongs to one image only, so others lose theirs.
    pub(crate) fn write_record(&self, mut record: ImageRecord) -> Result<ImageRecord, ImageError> {
        let _changing = self.changing();
        self.note_completed(record.manifest);
        let known = self.read_record(record.manifest);
        if let Some(known) = &known {
            record.loaded_at = known.loaded_at;
            record.names.extend(known.names.iter().cloned());
        }
        record.names.sort();
        record.names.dedup();
        // The new owner first: after a crash in between a name may have two owners, but never none.
        if known.as_ref() != Some(&record) {
            self.put_record(&record)?;
        }
        for mut other in self.read_records()? {
            let before = other.names.len();
            other.names.retain(|name| !record.names.contains(name));
            if other.manifest != record.manifest && other.names.len() != before {
                self.put_record(&other)?;
            }
        }
        Ok(record)
    }

    fn put_record(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let mut file = self.temporary().file("record")?;
        file.append(&to_json(record))?;
        coracle_crash_point::crash_point!("image.record.before-rename");
        file.install(&self.record_path(record.manifest))?;
        coracle_crash_point::crash_point!("image.record.after-rename");
        Ok(())
    }

    /// Forgets an image; tells whether it was known. Its content stays until it is collected.
    ///
    /// # Errors
    /// [`ImageError::Io`] from the disk.
    pub fn remove(&self, manifest: Digest) -> Result<bool, ImageError> {
        let removed = self.remove_record(manifest)?;
        if removed {
            self.sync_records()?;
        }
        Ok(removed)
    }

    /// Makes what was removed durable.
    pub(crate) fn sync_records(&self) -> Result<(), ImageError> {
        sync_directory(&self.path("images"))
    }

    /// As [`ImageStore::remove`], but not durable before [`ImageStore::sync_records`].
    pub(crate) fn remove_record(&self, manifest: Digest) -> Result<bool, ImageError> {
        let _changing = self.changing();
        let path = self.record_path(manifest);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.completed().remove(&manifest);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ImageError::io("removing", &path, error)),
        }
    }

    /// Takes a name away from the image that has it; tells whether one had.
    ///
    /// # Errors
    /// [`ImageError::Io`] from the disk.
    pub fn untag(&self, name: &ImageReference) -> Result<bool, ImageError> {
        let _changing = self.changing();
        let mut found = false;
        for mut record in self.read_records()? {
            if let Some(place) = record.names.iter().position(|known| known == name) {
                record.names.remove(place);
                self.put_record(&record)?;
                found = true;
            }
        }
        Ok(found)
    }
}
