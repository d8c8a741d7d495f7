//! Loading: from an archive to registered images.

use std::io::Read;

use crate::error::ImageError;
use crate::store::{ImageRecord, ImageStore};

use super::Found;
use super::docker::{self, SavedImage};
use super::members::Members;
use super::oci::{self, Marker};

impl ImageStore {
    /// Loads every image of an archive: of `docker save` in its old and new form, or an OCI layout; compressed or not.
    /// Where an archive has an image for several platforms, the one for this machine is taken.
    ///
    /// # Errors
    /// [`ImageError::NotAnImage`] when it is some other archive; anything of class [`crate::ErrorClass::BadInput`] when it is
    /// damaged or hostile. Images that were complete before the error stay loaded.
    pub fn load_archive(&self, source: impl Read) -> Result<Vec<ImageRecord>, ImageError> {
        let _adding = self.adding();
        let mut members = Members::read(source, self.temporary(), self.limits())?;
        let found = self.find_images(&members)?;
        found.into_iter().map(|image| self.install(image, &mut members)).collect()
    }

    fn find_images(&self, members: &Members) -> Result<Vec<Found>, ImageError> {
        let limits = self.limits();
        let saved: Option<Vec<SavedImage>> = members.document(docker::MANIFEST, limits)?;
        if let Some(marker) = members.document::<Marker>(oci::MARKER, limits)? {
            marker.check()?;
            return oci::find(saved.as_deref().unwrap_or_default(), members, self.platform(), limits);
        }
        match saved {
            Some(saved) if !saved.is_empty() => docker::find(&saved, members, limits),
            Some(_) => Err(ImageError::NotAnImage { reason: format!("{} names no image", docker::MANIFEST) }),
            None => Err(ImageError::NotAnImage {
                reason: format!(
                    "it has neither {} (docker save) nor {} (OCI layout); a root file system is taken in with an import",
                    docker::MANIFEST,
                    oci::MARKER
                ),
            }),
        }
    }

    /// Moves the blobs of one image into the store and completes it.
    fn install(&self, found: Found, members: &mut Members) -> Result<ImageRecord, ImageError> {
        for digest in found.blobs.iter().chain([&found.manifest]) {
            // Another image of the archive may have brought it.
            if let Some(file) = members.remove(*digest)
                && !self.has_blob(*digest, file.bytes())
            {
                self.install_blob(file)?;
            }
        }
        if let Some(manifest) = found.made_manifest {
            self.put_document(&manifest)?;
        }
        self.complete(found.manifest, &found.names)
    }
}
