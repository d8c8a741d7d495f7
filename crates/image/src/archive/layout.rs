//! Writes image archives: an OCI layout that also has Docker's `manifest.json`, so that every engine can load it.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;
use serde::Serialize;

use crate::document::manifest::{Descriptor, Index, to_json};
use crate::document::platform::Platform;
use crate::tar::{NewEntry, TarWriter};

/// An image to write.
#[derive(Debug)]
pub(crate) struct LayoutImage {
    /// The manifest.
    pub(crate) manifest: Descriptor,
    pub(crate) platform: Platform,
    pub(crate) config: Digest,
    /// Lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) names: Vec<ImageReference>,
}

/// One image of `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Vec<String>,
    pub(crate) layers: Vec<String>,
}

/// Writes an archive of `images`; `open` gives the blobs.
pub(crate) fn write<W: Write, R: Read>(
    sink: W,
    images: &[LayoutImage],
    mut open: impl FnMut(Digest) -> io::Result<(R, u64)>,
) -> io::Result<W> {
    let mut archive = TarWriter::new(sink);
    let append_document = |archive: &mut TarWriter<W>, name: &str, bytes: &[u8]| {
        archive.append_bytes(&NewEntry::file(name, 0), bytes)
    };
    append_document(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append_document(&mut archive, "index.json", &index(images).to_bytes())?;
    append_document(&mut archive, "manifest.json", &to_json(&saved_images(images)))?;
    archive.append(&NewEntry::directory("blobs/"), io::empty())?;
    archive.append(&NewEntry::directory("blobs/sha256/"), io::empty())?;
    for digest in blobs(images) {
        let (source, size) = open(digest)?;
        archive.append(&NewEntry::file(&blob_name(digest), size), source)?;
    }
    archive.finish()
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Each blob once, however many images share it.
fn blobs(images: &[LayoutImage]) -> BTreeSet<Digest> {
    images
        .iter()
        .flat_map(|image| {
            [image.manifest.digest, image.config].into_iter().chain(image.layers.iter().copied())
        })
        .collect()
}

/// One descriptor per name, as containerd writes it; one without a name for unnamed images.
fn index(images: &[LayoutImage]) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        let descriptor = Descriptor { platform: Some(image.platform.clone()), ..image.manifest.clone() };
        if image.names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in &image.names {
            let annotations = [
                ("io.containerd.image.name", name.canonical()),
                ("org.opencontainers.image.ref.name", name.tag().unwrap_or("latest").to_owned()),
            ];
            let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            manifests.push(Descriptor { annotations: Some(annotations), ..descriptor.clone() });
        }
    }
    Index::new(manifests)
}

fn saved_images(images: &[LayoutImage]) -> Vec<SavedImage> {
    let saved = |image: &LayoutImage| SavedImage {
        config: blob_name(image.config),
        repo_tags: image.names.iter().map(ToString::to_string).collect(),
        layers: image.layers.iter().map(|layer| blob_name(*layer)).collect(),
    };
    images.iter().map(saved).collect()
}
