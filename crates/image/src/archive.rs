//! Archives of images: reading those of Docker, Podman, Skopeo, BuildKit and plain root file systems, and writing them.
//!
//! An archive is read once, from a stream: its members go to temporary files and are hashed on the way; only then is decided what they
//! are. Names in the archive are keys of a table, never paths.

pub(crate) mod docker;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod layout;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod oci;

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;

/// An image found in an archive, not yet installed.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Digest,
    /// The manifest's bytes where the archive has none and they were made.
    pub(crate) made_manifest: Option<Vec<u8>>,
    /// Everything else the image needs.
    pub(crate) blobs: Vec<Digest>,
    pub(crate) names: Vec<ImageReference>,
}
