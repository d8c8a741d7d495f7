//! Manifests and indexes.

use std::collections::BTreeMap;

use coracle_model::digest::Digest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ImageError, LimitKind};
use crate::json;
use crate::limits::Limits;

use super::platform::Platform;

pub(crate) mod media_type {
    //! The media types that mean something here.
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub(crate) const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    pub(crate) fn is_index(text: &str) -> bool {
        matches!(text, OCI_INDEX | DOCKER_INDEX)
    }

    pub(crate) fn is_manifest(text: &str) -> bool {
        matches!(text, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    pub(crate) fn is_config(text: &str) -> bool {
        matches!(text, OCI_CONFIG | DOCKER_CONFIG)
    }

    pub(crate) fn is_layer(text: &str) -> bool {
        matches!(
            text,
            OCI_LAYER
                | OCI_LAYER_GZIP
                | OCI_LAYER_ZSTD
                | DOCKER_LAYER
                | DOCKER_LAYER_GZIP
                | DOCKER_LAYER_ZSTD
        )
    }
}

/// Digests as text in documents and records.
pub(crate) mod digest_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A reference from one document to another blob. `urls` are ignored: content comes only from where the image came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    #[serde(with = "digest_text")]
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: None }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Manifest {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(rename = "mediaType")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An index of manifests and further indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Index {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either document with every field optional, so that one that claims to be both is noticed (CVE-2021-41190).
#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    schema_one_layers: Option<serde::de::IgnoredAny>,
}

impl RawDocument {
    fn parse(bytes: &[u8], name: &str, limits: &Limits) -> Result<Self, ImageError> {
        let document: Self = json::parse(bytes, name, limits)?;
        if document.schema_one_layers.is_some() || document.schema_version == Some(1) {
            return Err(ImageError::Unsupported {
                what: format!("{name} of schema version 1"),
                instead: "push or save the image with a tool of this decade".into(),
            });
        }
        if document.schema_version != Some(2) {
            return Err(ImageError::document(name, "schemaVersion is not 2"));
        }
        Ok(document)
    }

    /// The stated media type must be the one of the kind of document that was asked for.
    fn check_media_type(&self, name: &str, is_right: fn(&str) -> bool) -> Result<(), ImageError> {
        match &self.media_type {
            Some(stated) if !is_right(stated) => Err(ImageError::document(
                name,
                format!("mediaType {stated:?} is not the one of such a document"),
            )),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_MANIFEST.into(), config, layers }
    }

    /// Reads a manifest; `name` names it in errors.
    pub(crate) fn parse(bytes: &[u8], name: &str, limits: &Limits) -> Result<Self, ImageError> {
        let document = RawDocument::parse(bytes, name, limits)?;
        document.check_media_type(name, media_type::is_manifest)?;
        if document.manifests.is_some() {
            return Err(ImageError::document(name, "it has \"manifests\", which only an index has"));
        }
        let config = document.config.ok_or_else(|| ImageError::document(name, "it has no \"config\""))?;
        let layers = document.layers.ok_or_else(|| ImageError::document(name, "it has no \"layers\""))?;
        if !media_type::is_config(&config.media_type) {
            let kind = document.artifact_type.unwrap_or(config.media_type);
            return Err(ImageError::Unsupported {
                what: format!("{name} of an artifact of type {kind:?}"),
                instead: "only container images can be run".into(),
            });
        }
        if config.size > limits.document_bytes {
            return Err(ImageError::limit(
                "image configuration",
                LimitKind::DocumentBytes,
                limits.document_bytes,
            ));
        }
        check_layers(&layers, name, limits)?;
        let media_type = document.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.into());
        Ok(Self { schema_version: 2, media_type, config, layers })
    }

    /// The bytes whose digest names the image. The same content gives the same bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Configuration and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (&Descriptor, &'static str)> {
        std::iter::once((&self.config, "configuration"))
            .chain(self.layers.iter().map(|layer| (layer, "layer")))
    }
}

fn check_layers(layers: &[Descriptor], name: &str, limits: &Limits) -> Result<(), ImageError> {
    if layers.len() > limits.layers {
        return Err(ImageError::limit(name, LimitKind::Layers, limits.layers as u64));
    }
    for layer in layers {
        if !media_type::is_layer(&layer.media_type) {
            return Err(ImageError::Unsupported {
                what: format!("layer {} of type {:?}", layer.digest, layer.media_type),
                instead: "layers are tar archives, plain or compressed with gzip or zstd, that travel with the image".into(),
            });
        }
        if layer.size > limits.blob_bytes {
            return Err(ImageError::limit(
                format!("layer {}", layer.digest),
                LimitKind::BlobBytes,
                limits.blob_bytes,
            ));
        }
    }
    Ok(())
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_INDEX, manifests }
    }

    /// Reads an index; `name` names it in errors.
    pub(crate) fn parse(bytes: &[u8], name: &str, limits: &Limits) -> Result<Self, ImageError> {
        let document = RawDocument::parse(bytes, name, limits)?;
        document.check_media_type(name, media_type::is_index)?;
        if document.config.is_some() || document.layers.is_some() {
            return Err(ImageError::document(name, "it is an index but has \"config\" or \"layers\""));
        }
        let manifests =
            document.manifests.ok_or_else(|| ImageError::document(name, "it has no \"manifests\""))?;
        Ok(Self::new(manifests))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// Serialises our own plain structs.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of strings and numbers always serialise")
}
