//! Blobs by digest: manifests, configurations and layers, exactly as they travel.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use coracle_model::digest::Digest;

use crate::document::manifest::{Descriptor, Manifest};
use crate::error::{ImageError, LimitKind};
use crate::hash::digest_of;
use crate::spool::TemporaryFile;

use super::ImageStore;

/// One blob of an image, for fetching it from a node that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// Its name and check.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What it is, in the words of the manifest.
    pub media_type: String,
}

impl From<&Descriptor> for BlobDescriptor {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest, size: descriptor.size, media_type: descriptor.media_type.clone() }
    }
}

/// A blob that is being received. Dropping it discards what was written.
#[derive(Debug)]
pub struct BlobWriter {
    store: ImageStore,
    file: TemporaryFile,
    digest: Digest,
    size: u64,
}

impl BlobWriter {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`ImageError::SizeMismatch`] as soon as more than the announced bytes come; [`ImageError::NoSpace`] and
    /// [`ImageError::Io`] from the disk.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ImageError> {
        let actual = self.file.bytes() + piece.len() as u64;
        if actual > self.size {
            return Err(ImageError::SizeMismatch { digest: self.digest, expected: self.size, actual });
        }
        self.file.append(piece)
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.file.bytes()
    }

    /// Checks size and digest and makes the blob durable.
    ///
    /// # Errors
    /// [`ImageError::SizeMismatch`] or [`ImageError::DigestMismatch`], and then nothing is kept; [`ImageError::Io`] from the disk.
    pub fn commit(self) -> Result<(), ImageError> {
        coracle_crash_point::crash_point!("image.fetch.before-commit");
        let (actual, bytes) = (self.file.digest(), self.file.bytes());
        if bytes != self.size {
            return Err(ImageError::SizeMismatch { digest: self.digest, expected: self.size, actual: bytes });
        }
        if actual != self.digest {
            return Err(ImageError::DigestMismatch {
                what: "received blob".into(),
                expected: self.digest,
                actual,
            });
        }
        self.store.install_blob(self.file)
    }
}

impl ImageStore {
    /// Begins to receive the blob `digest` of `size` bytes.
    ///
    /// # Errors
    /// [`ImageError::Limit`] when `size` is above the limit for blobs; [`ImageError::NoSpace`] when it would not fit;
    /// [`ImageError::Io`] from the disk.
    pub fn begin(&self, digest: Digest, size: u64) -> Result<BlobWriter, ImageError> {
        let limits = self.limits();
        if size > limits.blob_bytes {
            return Err(ImageError::limit(format!("blob {digest}"), LimitKind::BlobBytes, limits.blob_bytes));
        }
        let file = self.temporary().file("blob")?;
        file.check_space_for(size)?;
        Ok(BlobWriter { store: self.clone(), file, digest, size })
    }

    /// Whether the blob is here with the size it should have.
    pub fn has_blob(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// The blob for reading, and its size in bytes.
    ///
    /// # Errors
    /// [`ImageError::MissingBlob`] when it is not here; [`ImageError::Io`] from the disk.
    pub fn blob_reader(&self, digest: Digest) -> Result<(File, u64), ImageError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::MissingBlob { digest, what: "blob" });
            }
            Err(error) => return Err(ImageError::io("opening", &path, error)),
        };
        let size =
            file.metadata().map_err(|error| ImageError::io("reading the status of", &path, error))?.len();
        Ok((file, size))
    }

    /// Manifest, configuration and layers of an image whose manifest blob is here, in the order to fetch them.
    ///
    /// # Errors
    /// [`ImageError::MissingBlob`] when the manifest is not here; otherwise as reading it fails.
    pub fn manifest_blobs(&self, manifest: Digest) -> Result<Vec<BlobDescriptor>, ImageError> {
        let (document, size) = self.read_manifest(manifest)?;
        let mut blobs =
            vec![BlobDescriptor { digest: manifest, size, media_type: document.media_type.clone() }];
        for (descriptor, _) in document.blobs() {
            // One image may have the same layer several times.
            if !blobs.iter().any(|known| known.digest == descriptor.digest) {
                blobs.push(descriptor.into());
            }
        }
        Ok(blobs)
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn install_blob(&self, file: TemporaryFile) -> Result<(), ImageError> {
        let path = self.blob_path(file.digest());
        coracle_crash_point::crash_point!("image.blob.before-rename");
        file.install(&path)?;
        coracle_crash_point::crash_point!("image.blob.after-rename");
        Ok(())
    }

    /// Stores a small document of our own making.
    pub(crate) fn put_document(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = digest_of(bytes);
        if !self.has_blob(digest, bytes.len() as u64) {
            let mut file = self.temporary().file("document")?;
            file.append(bytes)?;
            self.install_blob(file)?;
        }
        Ok(digest)
    }

    /// The whole of a document blob, with its digest checked again: what it says is about to be believed.
    pub(crate) fn read_document(&self, digest: Digest, what: &'static str) -> Result<Vec<u8>, ImageError> {
        let (file, _) = self.blob_reader(digest).map_err(|error| match error {
            ImageError::MissingBlob { digest, .. } => ImageError::MissingBlob { digest, what },
            other => other,
        })?;
        let maximum = self.limits().document_bytes;
        let mut bytes = Vec::new();
        file.take(maximum + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::io("reading", self.blob_path(digest), error))?;
        if bytes.len() as u64 > maximum {
            return Err(ImageError::limit(format!("{what} {digest}"), LimitKind::DocumentBytes, maximum));
        }
        let actual = digest_of(&bytes);
        if actual != digest {
            return Err(ImageError::DigestMismatch {
                what: format!("stored {what}"),
                expected: digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// The manifest and its size in bytes.
    pub(crate) fn read_manifest(&self, digest: Digest) -> Result<(Manifest, u64), ImageError> {
        let bytes = self.read_document(digest, "manifest")?;
        let manifest = Manifest::parse(&bytes, &format!("manifest {digest}"), self.limits())?;
        Ok((manifest, bytes.len() as u64))
    }

    /// Removes a blob whose content no longer has its digest, so that it is fetched again. Tells whether it did.
    pub(crate) fn discard_if_damaged(&self, digest: Digest) -> Result<bool, ImageError> {
        let (file, _) = self.blob_reader(digest)?;
        let path = self.blob_path(digest);
        let mut reader = crate::hash::HashingReader::new(file);
        io::copy(&mut reader, &mut io::sink()).map_err(|error| ImageError::io("reading", &path, error))?;
        if reader.finish().0 == digest {
            return Ok(false);
        }
        tracing::warn!(%digest, "stored blob is damaged, removing it");
        fs::remove_file(&path).map_err(|error| ImageError::io("removing", &path, error))?;
        Ok(true)
    }
}
