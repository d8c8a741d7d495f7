//! Exporting: from stored images to an archive.

use std::io::Write;

use coracle_model::digest::Digest;

use crate::document::manifest::Descriptor;
use crate::error::ImageError;
use crate::store::ImageStore;

use super::layout::{self, LayoutImage};

impl ImageStore {
    /// Writes the images as one archive that `docker load` and this store read.
    ///
    /// # Errors
    /// [`ImageError::ImageAbsent`] before anything is written; [`ImageError::Io`] when reading or writing fails.
    pub fn export_archive(&self, manifests: &[Digest], sink: impl Write) -> Result<(), ImageError> {
        let _adding = self.adding();
        let images =
            manifests.iter().map(|manifest| self.layout_image(*manifest)).collect::<Result<Vec<_>, _>>()?;
        let written =
            layout::write(sink, &images, |digest| self.blob_reader(digest).map_err(ImageError::into_io));
        written.map(drop).map_err(|error| {
            ImageError::from_read(error, |source| ImageError::io("writing", "image archive", source))
        })
    }

    fn layout_image(&self, manifest: Digest) -> Result<LayoutImage, ImageError> {
        let record = self.get(manifest).ok_or(ImageError::ImageAbsent { manifest })?;
        let (document, size) = self.read_manifest(manifest)?;
        Ok(LayoutImage {
            manifest: Descriptor::new(&document.media_type, manifest, size),
            platform: record.platform,
            config: record.config,
            layers: record.layers.iter().map(|layer| layer.digest).collect(),
            names: record.names,
        })
    }
}
