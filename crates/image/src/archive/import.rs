//! Importing: a plain root file system becomes an image of one layer.

mod change;

use std::io::{BufReader, Read};

use coracle_model::image_ref::ImageReference;

use crate::decompress::Compression;
use crate::document::config::{ConfigDocument, RawConfigDocument, RawRootFileSystem};
use crate::document::manifest::{Descriptor, Manifest, media_type, to_json};
use crate::error::ImageError;
use crate::store::{ImageRecord, ImageStore};

pub use change::{ChangeError, ImportChange};

/// What the archive is called in errors.
const PLACE: &str = "root file system archive";

impl ImageStore {
    /// Makes an image `name` of a tar archive of a root file system, compressed or not. `changes` say how to run it. The same
    /// archive and changes always give the same image.
    ///
    /// # Errors
    /// Of class [`crate::ErrorClass::BadInput`] when the archive is damaged or hostile, or a change is invalid.
    pub fn import_rootfs(
        &self,
        source: impl Read,
        name: &ImageReference,
        changes: &[ImportChange],
    ) -> Result<ImageRecord, ImageError> {
        let _adding = self.adding();
        let mut blob = self.temporary().file("import")?;
        blob.append_all(source, PLACE, self.limits().blob_bytes)?;
        let (scratch, unpacked) = self.unpack_into_scratch(BufReader::new(blob.reopen()?), PLACE)?;
        if unpacked.report.entries == 0 {
            return Err(ImageError::NotAnImage { reason: "it is a tar archive without any entry".into() });
        }
        let mut document = RawConfigDocument {
            os: self.platform().os.clone(),
            architecture: self.platform().architecture.clone(),
            variant: self.platform().variant.clone(),
            rootfs: RawRootFileSystem { kind: "layers".into(), diff_ids: vec![unpacked.diff_id.to_string()] },
            ..RawConfigDocument::default()
        };
        for change in changes {
            change.apply(&mut document.config);
        }
        let config = to_json(&document);
        // Held to the rules of any other configuration, before anything is installed.
        ConfigDocument::from_raw(document, self.limits())?;
        let kind = match unpacked.compression {
            Compression::None => media_type::OCI_LAYER,
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        let layer = Descriptor::new(kind, blob.digest(), blob.bytes());
        self.install_blob(blob)?;
        self.install_layer(scratch, layer.digest, &unpacked)?;
        let config =
            Descriptor::new(media_type::OCI_CONFIG, self.put_document(&config)?, config.len() as u64);
        let manifest = self.put_document(&Manifest::new(config, vec![layer]).to_bytes())?;
        self.complete(manifest, std::slice::from_ref(name))
    }
}
