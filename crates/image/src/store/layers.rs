//! Unpacked layers: shared between images, installed whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use coracle_model::digest::Digest;
use coracle_remove_tree::remove_tree;
use serde::{Deserialize, Serialize};

use crate::decompress::Decompressed;
use crate::document::manifest::to_json;
use crate::error::ImageError;
use crate::hash::HashingReader;
use crate::spool::ScratchDirectory;
use crate::unpack::{Unpacked, sync_file_system, unpack_layer};

use super::ImageStore;

/// The note's file.
const NOTE: &str = "layer.json";

/// What is noted beside an unpacked layer. Its presence says that the layer is complete.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LayerNote {
    /// Bytes of file data.
    pub(crate) bytes: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Blobs known to become this layer: one layer may be packed in several ways.
    pub(crate) blobs: BTreeSet<String>,
}

impl ImageStore {
    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.path("layers").join(diff_id.hex())
    }

    /// The lower directory of a layer.
    pub(crate) fn layer_root(&self, diff_id: Digest) -> PathBuf {
        self.layer_path(diff_id).join("fs")
    }

    pub(crate) fn has_layer(&self, diff_id: Digest) -> bool {
        let path = self.layer_path(diff_id);
        path.join(NOTE).is_file() && path.join("fs").is_dir()
    }

    /// Unpacks the layer blob `blob` unless the layer is here; what comes out must have the digest `diff_id`.
    pub(crate) fn ensure_layer(&self, blob: Digest, diff_id: Digest) -> Result<(), ImageError> {
        let known = if self.has_layer(diff_id) { self.layer_note(diff_id) } else { None };
        let result = match known {
            Some(note) if note.blobs.contains(&blob.to_string()) => return Ok(()),
            Some(note) => self.admit_blob(blob, diff_id, note),
            None => self.unpack_blob(blob, diff_id),
        };
        // A blob that was damaged on disk after it had been verified must not make the image unusable for ever.
        let content_is_bad = matches!(
            result,
            Err(ImageError::DigestMismatch { .. } | ImageError::Compression { .. } | ImageError::Tar { .. })
        );
        if content_is_bad && self.discard_if_damaged(blob)? {
            return Err(ImageError::MissingBlob { digest: blob, what: "layer, which was damaged on disk" });
        }
        result
    }

    /// Another blob claims to be a layer that is here. It must prove that, or an image could name the layers of others
    /// without having them.
    fn admit_blob(&self, blob: Digest, diff_id: Digest, mut note: LayerNote) -> Result<(), ImageError> {
        let place = format!("layer {blob}");
        let (file, _) = self.blob_reader(blob)?;
        let mut reader = HashingReader::new(Decompressed::new(file, &place, self.limits())?);
        let input = |source| ImageError::Input { place: place.clone(), source };
        io::copy(&mut reader, &mut io::sink()).map_err(|error| ImageError::from_read(error, input))?;
        check_diff_id(&place, diff_id, reader.finish().0)?;
        note.blobs.insert(blob.to_string());
        let mut file = self.temporary().file("note")?;
        file.append(&to_json(&note))?;
        let _changing = self.changing();
        file.install(&self.layer_path(diff_id).join(NOTE))
    }

    fn unpack_blob(&self, blob: Digest, diff_id: Digest) -> Result<(), ImageError> {
        let place = format!("layer {blob}");
        let (file, _) = self.blob_reader(blob)?;
        coracle_crash_point::crash_point!("image.layer.before-unpack");
        let (scratch, unpacked) = self.unpack_into_scratch(file, &place)?;
        check_diff_id(&place, diff_id, unpacked.diff_id)?;
        self.install_layer(scratch, blob, &unpacked)
    }

    /// Unpacks into a directory under `tmp/`, to be installed with [`ImageStore::install_layer`].
    pub(crate) fn unpack_into_scratch(
        &self,
        source: impl Read,
        place: &str,
    ) -> Result<(ScratchDirectory, Unpacked), ImageError> {
        let scratch = self.temporary().directory("layer")?;
        let root = scratch.path().join("fs");
        fs::create_dir(&root).map_err(|error| ImageError::io("creating", &root, error))?;
        let unpacked = unpack_layer(source, &root, place, self.limits())?;
        Ok((scratch, unpacked))
    }

    /// Makes the layer that was unpacked from `blob` durable and known. Somebody else may have been faster; then this
    /// copy is dropped.
    pub(crate) fn install_layer(
        &self,
        scratch: ScratchDirectory,
        blob: Digest,
        unpacked: &Unpacked,
    ) -> Result<(), ImageError> {
        let (diff_id, report) = (unpacked.diff_id, unpacked.report);
        let blobs = BTreeSet::from([blob.to_string()]);
        let note = LayerNote { bytes: report.bytes, entries: report.entries, blobs };
        let path = scratch.path().join(NOTE);
        fs::write(&path, to_json(&note)).map_err(|error| ImageError::io("writing", &path, error))?;
        sync_file_system(scratch.path())?;
        let _changing = self.changing();
        if self.has_layer(diff_id) && self.layer_note(diff_id).is_some() {
            return Ok(());
        }
        self.discard_layer(diff_id)?;
        coracle_crash_point::crash_point!("image.layer.before-rename");
        scratch.install(&self.layer_path(diff_id))?;
        coracle_crash_point::crash_point!("image.layer.after-rename");
        Ok(())
    }

    /// Moves a layer out of sight before it is removed, so that half of one is never taken for a whole one.
    pub(crate) fn discard_layer(&self, diff_id: Digest) -> Result<(), ImageError> {
        match self.bury_tree(&self.layer_path(diff_id))? {
            Some(grave) => remove_grave(&grave),
            None => Ok(()),
        }
    }

    /// Takes its place from a tree: returns where it is now, to be removed; nothing if there was none.
    pub(crate) fn bury_tree(&self, path: &Path) -> Result<Option<PathBuf>, ImageError> {
        let grave = self.temporary().unique("discarded");
        match fs::rename(path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("removing", path, error)),
            Ok(()) => Ok(Some(grave)),
        }
    }

    /// Bytes of file data of a layer, when it is here.
    pub(crate) fn layer_bytes(&self, diff_id: Digest) -> Option<u64> {
        self.layer_note(diff_id).map(|note| note.bytes)
    }

    /// The note of a layer; a damaged one is none, so that the layer is made again.
    fn layer_note(&self, diff_id: Digest) -> Option<LayerNote> {
        serde_json::from_slice(&fs::read(self.layer_path(diff_id).join(NOTE)).ok()?).ok()
    }
}

/// Removes a tree that lost its place.
pub(crate) fn remove_grave(grave: &Path) -> Result<(), ImageError> {
    remove_tree(grave).map_err(|error| ImageError::io("removing", grave, error))
}

fn check_diff_id(place: &str, expected: Digest, actual: Digest) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::DigestMismatch { what: format!("uncompressed {place}"), expected, actual })
}
