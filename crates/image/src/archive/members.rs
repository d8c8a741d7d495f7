//! The members of an image archive, on disk and by name and digest.

use std::collections::HashMap;
use std::io::Read;

use coracle_model::digest::Digest;
use serde::de::DeserializeOwned;

use crate::decompress::Decompressed;
use crate::error::{ImageError, LimitKind, printable};
use crate::json;
use crate::limits::Limits;
use crate::spool::{TemporaryDirectory, TemporaryFile};
use crate::tar::{Entry, EntryKind, TarReader};

/// How many links of an archive are followed for one name.
const LINK_DEPTH: usize = 8;
/// What the archive is called in errors.
const PLACE: &str = "image archive";

/// What a name stands for.
#[derive(Debug)]
enum Member {
    Content(Digest),
    /// Docker once wrote repeated layers as links to the first one.
    Link(String),
}

/// All members of an archive.
#[derive(Debug, Default)]
pub(crate) struct Members {
    names: HashMap<String, Member>,
    files: HashMap<Digest, TemporaryFile>,
}

impl Members {
    /// Reads a whole archive into temporary files.
    pub(crate) fn read(
        source: impl Read,
        temporary: &TemporaryDirectory,
        limits: &Limits,
    ) -> Result<Self, ImageError> {
        let mut archive = TarReader::new(Decompressed::new(source, PLACE, limits)?, PLACE, limits);
        let mut members = Self::default();
        let mut count = 0;
        while let Some(entry) = archive.next_entry()? {
            count += 1;
            if count > limits.archive_members {
                return Err(ImageError::limit(PLACE, LimitKind::Members, limits.archive_members));
            }
            members.take(&entry, &mut archive, temporary, limits)?;
        }
        archive.drain()?;
        Ok(members)
    }

    fn take(
        &mut self,
        entry: &Entry,
        data: impl Read,
        temporary: &TemporaryDirectory,
        limits: &Limits,
    ) -> Result<(), ImageError> {
        // Names that are not plain text cannot be meant by any document, which is JSON.
        let Some(name) = std::str::from_utf8(&entry.path).ok().and_then(|path| normalised("", path)) else {
            return Ok(());
        };
        let member = match &entry.kind {
            EntryKind::File => {
                let mut file = temporary.file("member")?;
                file.append_all(data, PLACE, limits.uncompressed_bytes.min(limits.blob_bytes))?;
                // An archive may have more members than we may have files open.
                file.close();
                let digest = file.digest();
                self.files.entry(digest).or_insert(file);
                Member::Content(digest)
            }
            EntryKind::SymbolicLink { target } => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                match std::str::from_utf8(target).ok().and_then(|target| normalised(directory, target)) {
                    Some(target) => Member::Link(target),
                    None => return Ok(()),
                }
            }
            EntryKind::HardLink { target } => {
                match std::str::from_utf8(target).ok().and_then(|target| normalised("", target)) {
                    Some(target) => Member::Link(target),
                    None => return Ok(()),
                }
            }
            EntryKind::Directory | EntryKind::Device | EntryKind::Fifo => return Ok(()),
        };
        match self.names.insert(name, member) {
            None => Ok(()),
            // Which of the two counts is where readers disagree.
            Some(_) => {
                Err(ImageError::NotAnImage { reason: format!("{:?} is in it twice", printable(&entry.path)) })
            }
        }
    }

    /// The content a name stands for.
    pub(crate) fn digest_of(&self, name: &str) -> Option<Digest> {
        let mut name = normalised("", name)?;
        for _ in 0..LINK_DEPTH {
            match self.names.get(&name)? {
                Member::Content(digest) => return Some(*digest),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// The name the OCI layout gives a blob, if it is there, must have the content it says.
    pub(crate) fn blob(&self, digest: Digest, what: &'static str) -> Result<&TemporaryFile, ImageError> {
        if let Some(actual) = self.digest_of(&format!("blobs/sha256/{}", digest.hex()))
            && actual != digest
        {
            return Err(ImageError::DigestMismatch {
                what: format!("{what} in the archive"),
                expected: digest,
                actual,
            });
        }
        self.files.get(&digest).ok_or(ImageError::MissingBlob { digest, what })
    }

    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        self.files.contains_key(&digest)
    }

    /// The bytes of a small member.
    pub(crate) fn bytes(
        &self,
        digest: Digest,
        what: &'static str,
        limits: &Limits,
    ) -> Result<Vec<u8>, ImageError> {
        let file = self.blob(digest, what)?;
        if file.bytes() > limits.document_bytes {
            return Err(ImageError::limit(
                format!("{what} {digest}"),
                LimitKind::DocumentBytes,
                limits.document_bytes,
            ));
        }
        let mut bytes = Vec::new();
        file.reopen()?.read_to_end(&mut bytes).map_err(|error| ImageError::io("reading", PLACE, error))?;
        Ok(bytes)
    }

    /// The first bytes of a member, to tell what it is.
    pub(crate) fn start(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let mut start = Vec::new();
        let file = self.blob(digest, "layer")?.reopen()?;
        file.take(8).read_to_end(&mut start).map_err(|error| ImageError::io("reading", PLACE, error))?;
        Ok(start)
    }

    /// A JSON member by name.
    pub(crate) fn document<T: DeserializeOwned>(
        &self,
        name: &'static str,
        limits: &Limits,
    ) -> Result<Option<T>, ImageError> {
        match self.digest_of(name) {
            Some(digest) => json::parse(&self.bytes(digest, name, limits)?, name, limits).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the file of a blob out, for installing it. Nothing when it was taken before.
    pub(crate) fn remove(&mut self, digest: Digest) -> Option<TemporaryFile> {
        self.files.remove(&digest)
    }
}

/// `path` as seen from `directory`, without `.`, `..` and empty components; nothing when it leaves the archive.
fn normalised(directory: &str, path: &str) -> Option<String> {
    let start = if path.starts_with('/') { "" } else { directory };
    let mut components = Vec::new();
    for component in start.split('/').chain(path.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            _ => components.push(component),
        }
    }
    (!components.is_empty()).then(|| components.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{NewEntry, TarWriter};

    #[test]
    fn members_are_not_kept_open() {
        const MEMBERS: usize = 300;
        let folder = tempfile::tempdir().unwrap();
        let temporary = TemporaryDirectory::open(folder.path().join("tmp"), 0).unwrap();
        let mut archive = TarWriter::new(Vec::new());
        for number in 0..MEMBERS {
            let name = number.to_string();
            archive.append_bytes(&NewEntry::file(&name, 0), name.as_bytes()).unwrap();
        }
        let archive = archive.finish().unwrap();
        let members = Members::read(&archive[..], &temporary, &Limits::default()).unwrap();
        assert_eq!(members.files.len(), MEMBERS);
        let prefix = folder.path().join("tmp");
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert_eq!(open.filter(|path| path.starts_with(&prefix)).count(), 0);
    }

    #[test]
    fn names() {
        assert_eq!(normalised("", "./a//b/").as_deref(), Some("a/b"));
        assert_eq!(normalised("x", "../y/layer.tar").as_deref(), Some("y/layer.tar"));
        assert_eq!(normalised("x", "../../y"), None);
        assert_eq!(normalised("", "./"), None);
    }
}
