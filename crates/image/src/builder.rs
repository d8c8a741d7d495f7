//! Makes images from files in memory: for demonstrations and tests, where no other tool is at hand.
//!
//! The same calls give the same bytes, so an image made twice has one digest.

use std::collections::HashMap;
use std::io::{self, Write};

use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;

use crate::archive::import::ImportChange;
use crate::archive::layout::{self, LayoutImage};
use crate::document::config::{RawConfigDocument, RawRootFileSystem};
use crate::document::manifest::{Descriptor, Manifest, media_type, to_json};
use crate::document::platform::Platform;
use crate::hash::digest_of;
use crate::tar::{EntryKind, NewEntry, TarWriter};

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Packing {
    /// As a plain tar archive.
    #[default]
    Plain,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
}

/// One layer: entries in the order they are added. Paths are relative to the root, without a leading slash.
#[derive(Clone, Debug, Default)]
pub struct LayerBuilder {
    entries: Vec<LayerEntry>,
    packing: Packing,
}

#[derive(Clone, Debug)]
struct LayerEntry {
    path: String,
    kind: EntryKind,
    mode: u32,
    owner: (u32, u32),
    modified: u64,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    data: Vec<u8>,
}

impl LayerBuilder {
    /// A layer without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file with `mode` as its permission bits.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, data: impl Into<Vec<u8>>) -> Self {
        self.entry(path, EntryKind::File, mode, data.into())
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, EntryKind::Directory, mode, Vec::new())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symbolic_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryKind::SymbolicLink { target: target.into() }, 0o777, Vec::new())
    }

    /// A hard link to a file added before.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryKind::HardLink { target: target.into() }, 0o644, Vec::new())
    }

    /// A named pipe.
    #[must_use]
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        self.entry(path, EntryKind::Fifo, mode, Vec::new())
    }

    /// Hides `path` of lower layers.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let marker = match path.rsplit_once('/') {
            Some((directory, name)) => format!("{directory}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&marker, 0o600, Vec::new())
    }

    /// Hides everything lower layers have in the directory `path`.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0o600, Vec::new())
    }

    /// Sets owner and group of the entry added last.
    #[must_use]
    pub fn owned_by(mut self, user: u32, group: u32) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.owner = (user, group);
        }
        self
    }

    /// Sets the time of the entry added last, in seconds since the epoch.
    #[must_use]
    pub fn modified_at(mut self, seconds: u64) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.modified = seconds;
        }
        self
    }

    /// Gives the entry added last an extended attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.attributes.push((name.into(), value.to_vec()));
        }
        self
    }

    /// How the layer is packed.
    #[must_use]
    pub fn packed(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// The layer as a plain tar archive, which is also a root file system to import.
    ///
    /// # Errors
    /// When writing fails, which in memory it does not.
    pub fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = TarWriter::new(Vec::new());
        for entry in &self.entries {
            let header = NewEntry {
                path: entry.path.as_bytes(),
                kind: entry.kind.clone(),
                size: entry.data.len() as u64,
                mode: entry.mode,
                user: entry.owner.0,
                group: entry.owner.1,
                modified: entry.modified,
                attributes: &entry.attributes,
                records: &[],
            };
            archive.append(&header, &entry.data[..])?;
        }
        archive.finish()
    }

    fn entry(mut self, path: &str, kind: EntryKind, mode: u32, data: Vec<u8>) -> Self {
        let entry = LayerEntry {
            path: path.into(),
            kind,
            mode,
            owner: (0, 0),
            modified: 0,
            attributes: Vec::new(),
            data,
        };
        self.entries.push(entry);
        self
    }

    fn pack(&self) -> io::Result<PackedLayer> {
        let plain = self.to_tar()?;
        let diff_id = digest_of(&plain);
        let (media_type, bytes) = match self.packing {
            Packing::Plain => (media_type::OCI_LAYER, plain),
            Packing::Gzip => (media_type::OCI_LAYER_GZIP, compress_gzip(&plain)?),
            Packing::Zstd => (media_type::OCI_LAYER_ZSTD, zstd::encode_all(&plain[..], 3)?),
        };
        Ok(PackedLayer { diff_id, media_type, bytes })
    }
}

struct PackedLayer {
    diff_id: Digest,
    media_type: &'static str,
    bytes: Vec<u8>,
}

/// No name and no time goes into the header: equal input, equal output.
fn compress_gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// An image: layers, lowest first, and how to run it.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    layers: Vec<LayerBuilder>,
    changes: Vec<ImportChange>,
    names: Vec<ImageReference>,
    platform: Platform,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An image without layers for the platform this program runs on.
    pub fn new() -> Self {
        Self { layers: Vec::new(), changes: Vec::new(), names: Vec::new(), platform: Platform::host() }
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: LayerBuilder) -> Self {
        self.layers.push(layer);
        self
    }

    /// Changes the configuration.
    #[must_use]
    pub fn change(mut self, change: ImportChange) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds a name.
    #[must_use]
    pub fn name(mut self, name: ImageReference) -> Self {
        self.names.push(name);
        self
    }

    /// Says what it runs on.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Packs layers and writes the documents. Values are not validated: whoever loads the image does that.
    ///
    /// # Errors
    /// When compressing fails, which in memory it does not.
    pub fn build(&self) -> io::Result<BuiltImage> {
        let layers = self.layers.iter().map(LayerBuilder::pack).collect::<io::Result<Vec<_>>>()?;
        let mut document = RawConfigDocument {
            os: self.platform.os.clone(),
            architecture: self.platform.architecture.clone(),
            variant: self.platform.variant.clone(),
            rootfs: RawRootFileSystem {
                kind: "layers".into(),
                diff_ids: layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
            },
            ..RawConfigDocument::default()
        };
        for change in &self.changes {
            change.apply(&mut document.config);
        }
        let mut blobs = HashMap::new();
        let mut store = |media_type: &str, bytes: Vec<u8>| {
            let descriptor = Descriptor::new(media_type, digest_of(&bytes), bytes.len() as u64);
            blobs.insert(descriptor.digest, bytes);
            descriptor
        };
        let config = store(media_type::OCI_CONFIG, to_json(&document));
        let layers: Vec<_> = layers.into_iter().map(|layer| store(layer.media_type, layer.bytes)).collect();
        let manifest = Manifest::new(config, layers);
        let descriptor = store(media_type::OCI_MANIFEST, manifest.to_bytes());
        Ok(BuiltImage {
            manifest,
            descriptor,
            blobs,
            names: self.names.clone(),
            platform: self.platform.clone(),
        })
    }
}

/// A built image in memory.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    manifest: Manifest,
    descriptor: Descriptor,
    blobs: HashMap<Digest, Vec<u8>>,
    names: Vec<ImageReference>,
    platform: Platform,
}

impl BuiltImage {
    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// A blob of the image: manifest, configuration or layer.
    pub fn blob(&self, digest: Digest) -> Option<&[u8]> {
        self.blobs.get(&digest).map(Vec::as_slice)
    }

    /// The digests of manifest, configuration and layers, in this order.
    pub fn blob_digests(&self) -> Vec<Digest> {
        std::iter::once(self.digest()).chain(self.manifest.blobs().map(|(blob, _)| blob.digest)).collect()
    }

    /// Writes an OCI layout that also has Docker's `manifest.json`; every engine loads it.
    ///
    /// # Errors
    /// When `sink` fails.
    pub fn write_archive(&self, sink: impl Write) -> io::Result<()> {
        let image = LayoutImage {
            manifest: self.descriptor.clone(),
            platform: self.platform.clone(),
            config: self.manifest.config.digest,
            layers: self.manifest.layers.iter().map(|layer| layer.digest).collect(),
            names: self.names.clone(),
        };
        layout::write(sink, &[image], |digest| self.open(digest)).map(drop)
    }

    /// Writes the older form of `docker save`, without any manifest of its own.
    ///
    /// # Errors
    /// When `sink` fails.
    pub fn write_docker_archive(&self, sink: impl Write) -> io::Result<()> {
        let config = self.manifest.config.digest;
        let layer_name = |digest: Digest| format!("{}/layer.tar", digest.hex());
        let mut archive = TarWriter::new(sink);
        let (bytes, _) = self.open(config)?;
        let config_name = format!("{}.json", config.hex());
        archive.append_bytes(&NewEntry::file(&config_name, 0), bytes)?;
        let mut written = Vec::new();
        for layer in &self.manifest.layers {
            if written.contains(&layer.digest) {
                continue;
            }
            written.push(layer.digest);
            archive.append(&NewEntry::directory(&format!("{}/", layer.digest.hex())), io::empty())?;
            archive
                .append_bytes(&NewEntry::file(&layer_name(layer.digest), 0), self.open(layer.digest)?.0)?;
        }
        let saved = layout::SavedImage {
            config: config_name,
            repo_tags: self.names.iter().map(ToString::to_string).collect(),
            layers: self.manifest.layers.iter().map(|layer| layer_name(layer.digest)).collect(),
        };
        archive.append_bytes(&NewEntry::file("manifest.json", 0), &to_json(&[saved]))?;
        archive.finish().map(drop)
    }

    fn open(&self, digest: Digest) -> io::Result<(&[u8], u64)> {
        let bytes = self.blob(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok((bytes, bytes.len() as u64))
    }
}
