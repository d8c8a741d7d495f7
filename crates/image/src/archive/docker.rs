//! Archives of `docker save`: `manifest.json` names a configuration and layers.

use serde::Deserialize;

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;

use crate::document::config::ConfigDocument;
use crate::document::manifest::{Descriptor, Manifest, media_type};
use crate::error::ImageError;
use crate::hash::digest_of;
use crate::limits::Limits;

use super::Found;
use super::members::Members;

/// The document that makes a tar archive one of `docker save`.
pub(crate) const MANIFEST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Option<Vec<String>>,
}

impl SavedImage {
    /// The names, as far as they are names.
    pub(crate) fn names(&self) -> Result<Vec<ImageReference>, ImageError> {
        let read = |text: &String| {
            ImageReference::parse_tagged(text)
                .map_err(|error| ImageError::document(MANIFEST, format!("RepoTags: {error}")))
        };
        self.repo_tags.iter().flatten().map(read).collect()
    }
}

/// The images of an archive without OCI manifests. One is made for each; the same content always gives the same digest.
pub(crate) fn find(
    saved: &[SavedImage],
    members: &Members,
    limits: &Limits,
) -> Result<Vec<Found>, ImageError> {
    saved.iter().map(|image| find_one(image, members, limits)).collect()
}

fn find_one(saved: &SavedImage, members: &Members, limits: &Limits) -> Result<Found, ImageError> {
    let config = member(members, &saved.config)?;
    let bytes = members.bytes(config, "configuration", limits)?;
    ConfigDocument::parse(&bytes, limits)?;
    let mut layers = Vec::new();
    for name in saved.layers.iter().flatten() {
        let digest = member(members, name)?;
        let kind = layer_type(&members.start(digest)?);
        layers.push(Descriptor::new(kind, digest, members.blob(digest, "layer")?.bytes()));
    }
    let blobs = layers.iter().map(|layer| layer.digest).chain([config]).collect();
    let manifest = Manifest::new(Descriptor::new(media_type::OCI_CONFIG, config, bytes.len() as u64), layers);
    let bytes = manifest.to_bytes();
    // Held to the rules of any other manifest.
    Manifest::parse(&bytes, MANIFEST, limits)?;
    Ok(Found { manifest: digest_of(&bytes), made_manifest: Some(bytes), blobs, names: saved.names()? })
}

fn member(members: &Members, name: &str) -> Result<Digest, ImageError> {
    members.digest_of(name).ok_or_else(|| ImageError::NotAnImage {
        reason: format!("{MANIFEST} names {name:?}, which is not in the archive"),
    })
}

/// What a layer is by its first bytes. Anything else is found out when it is unpacked.
fn layer_type(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    }
}
