//! OCI image layouts (OCI image specification, "Image Layout"): `index.json` leads to manifests, at most through one more index.

use std::collections::BTreeMap;

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;
use serde::Deserialize;

use crate::document::config::ConfigDocument;
use crate::document::manifest::{Descriptor, Index, Manifest, media_type};
use crate::document::platform::Platform;
use crate::error::ImageError;
use crate::limits::Limits;

use super::Found;
use super::docker::SavedImage;
use super::members::Members;

/// The entry point of a layout.
pub(crate) const INDEX: &str = "index.json";
/// The file that marks a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// The full name of an image, as containerd, Docker and BuildKit write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name of an image, or only its tag.
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks manifests that describe another one instead of being an image.
const ATTESTATION: &str = "vnd.docker.reference.type";
/// Index documents on the way to a manifest, the entry point included.
const INDEX_DEPTH: usize = 2;

/// The marker's content.
#[derive(Debug, Deserialize)]
pub(crate) struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Marker {
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        if self.version.starts_with("1.") {
            return Ok(());
        }
        let what = format!("OCI image layout of version {:?}", self.version);
        Err(ImageError::Unsupported { what, instead: "save the image with layout version 1.0.0".into() })
    }
}

/// A manifest the index leads to.
struct Candidate {
    descriptor: Descriptor,
    names: Vec<ImageReference>,
    /// Position in the entry point: of each, one manifest is chosen.
    group: usize,
}

/// The images of a layout for `platform`. `saved` is the `manifest.json` Docker also writes, for its names.
pub(crate) fn find(
    saved: &[SavedImage],
    members: &Members,
    platform: &Platform,
    limits: &Limits,
) -> Result<Vec<Found>, ImageError> {
    let candidates = candidates(members, limits)?;
    let only_one = candidates.len() == 1;
    let saved_names = saved_names(saved, members)?;
    let mut found: Vec<Found> = Vec::new();
    let mut offered: Vec<String> = Vec::new();
    let mut chosen_groups = Vec::new();
    for candidate in candidates {
        // A multi-platform image may be saved with the blobs of one platform only.
        let has_manifest = members.has_blob(candidate.descriptor.digest);
        if !only_one && (!has_manifest || chosen_groups.contains(&candidate.group)) {
            offered.extend(candidate.descriptor.platform.map(|platform| platform.to_string()));
            continue;
        }
        let (image, config, image_platform) = read_candidate(&candidate, members, limits)?;
        // An archive of one image is loaded wherever it is: other nodes may be of its platform.
        if !only_one && !image_platform.runs_on(platform) {
            offered.push(image_platform.to_string());
            continue;
        }
        chosen_groups.push(candidate.group);
        let mut names = candidate.names;
        names.extend(saved_names.get(&config).into_iter().flatten().cloned());
        match found.iter_mut().find(|known| known.manifest == image.manifest) {
            Some(known) => known.names.extend(names),
            None => found.push(Found { names, ..image }),
        }
    }
    if found.is_empty() {
        offered.sort();
        offered.dedup();
        let offered = if offered.is_empty() { "no image at all".into() } else { offered.join(", ") };
        return Err(ImageError::Platform { wanted: platform.clone(), offered });
    }
    Ok(found)
}

fn candidates(members: &Members, limits: &Limits) -> Result<Vec<Candidate>, ImageError> {
    let entry = members
        .digest_of(INDEX)
        .ok_or_else(|| ImageError::NotAnImage { reason: format!("it has {MARKER} but no {INDEX}") })?;
    let index = Index::parse(&members.bytes(entry, INDEX, limits)?, INDEX, limits)?;
    let mut candidates = Vec::new();
    for (group, descriptor) in index.manifests.into_iter().enumerate() {
        let names = names(&descriptor)?;
        add_candidates(&mut candidates, descriptor, &names, group, 1, members, limits)?;
        if candidates.len() as u64 > limits.archive_members {
            return Err(ImageError::document(
                INDEX,
                "it leads to more manifests than an archive may have members",
            ));
        }
    }
    Ok(candidates)
}

fn add_candidates(
    candidates: &mut Vec<Candidate>,
    descriptor: Descriptor,
    names: &[ImageReference],
    group: usize,
    depth: usize,
    members: &Members,
    limits: &Limits,
) -> Result<(), ImageError> {
    if media_type::is_manifest(&descriptor.media_type) {
        if descriptor.annotation(ATTESTATION).is_none() {
            candidates.push(Candidate { descriptor, names: names.to_vec(), group });
        }
        return Ok(());
    }
    if !media_type::is_index(&descriptor.media_type) {
        // Signatures and other artifacts may lie beside images.
        return Ok(());
    }
    let name = format!("index {}", descriptor.digest);
    if depth == INDEX_DEPTH {
        return Err(ImageError::document(name, "indexes are nested deeper than 2"));
    }
    let nested = Index::parse(&members.bytes(descriptor.digest, "index", limits)?, &name, limits)?;
    for descriptor in nested.manifests {
        add_candidates(candidates, descriptor, names, group, depth + 1, members, limits)?;
    }
    Ok(())
}

/// Reads a candidate's documents and checks that everything it names is here.
fn read_candidate(
    candidate: &Candidate,
    members: &Members,
    limits: &Limits,
) -> Result<(Found, Digest, Platform), ImageError> {
    let digest = candidate.descriptor.digest;
    let bytes = members.bytes(digest, "manifest", limits)?;
    if bytes.len() as u64 != candidate.descriptor.size {
        return Err(ImageError::SizeMismatch {
            digest,
            expected: candidate.descriptor.size,
            actual: bytes.len() as u64,
        });
    }
    let manifest = Manifest::parse(&bytes, &format!("manifest {digest}"), limits)?;
    if manifest.media_type != candidate.descriptor.media_type {
        let reason = format!(
            "its mediaType is {:?}, the index says {:?}",
            manifest.media_type, candidate.descriptor.media_type
        );
        return Err(ImageError::document(format!("manifest {digest}"), reason));
    }
    let config = manifest.config.digest;
    let document = ConfigDocument::parse(&members.bytes(config, "configuration", limits)?, limits)?;
    let mut blobs = Vec::new();
    for (blob, what) in manifest.blobs() {
        let actual = members.blob(blob.digest, what)?.bytes();
        if actual != blob.size {
            return Err(ImageError::SizeMismatch { digest: blob.digest, expected: blob.size, actual });
        }
        blobs.push(blob.digest);
    }
    let found = Found { manifest: digest, made_manifest: None, blobs, names: Vec::new() };
    Ok((found, config, document.platform))
}

/// The names an index gives an image. A mere tag is none: nothing says of what.
fn names(descriptor: &Descriptor) -> Result<Vec<ImageReference>, ImageError> {
    let read = |text: &str| {
        ImageReference::parse_tagged(text)
            .map_err(|error| ImageError::document(INDEX, format!("annotation: {error}")))
    };
    match (descriptor.annotation(CONTAINERD_NAME), descriptor.annotation(REFERENCE_NAME)) {
        (Some(name), _) => Ok(vec![read(name)?]),
        (None, Some(name)) if name.contains(['/', ':']) => Ok(vec![read(name)?]),
        _ => Ok(Vec::new()),
    }
}

/// The names `manifest.json` gives, by the digest of the configuration.
fn saved_names(
    saved: &[SavedImage],
    members: &Members,
) -> Result<BTreeMap<Digest, Vec<ImageReference>>, ImageError> {
    let mut names: BTreeMap<Digest, Vec<ImageReference>> = BTreeMap::new();
    for image in saved {
        if let Some(config) = members.digest_of(&image.config) {
            names.entry(config).or_default().extend(image.names()?);
        }
    }
    Ok(names)
}
