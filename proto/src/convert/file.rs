//! Secrets and configs.

use bytes::Bytes;
use coracle_model::cluster::Secret;
use coracle_model::id::FileId;
use coracle_model::secret::{Content, FILE_MODE, File, FileKind, FileReference, FileTarget};
use coracle_model::version::Version;

use super::{DecodeError, enumerator, parse, required, timestamp};
use crate::v1;

impl From<FileKind> for v1::FileKind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Secret => Self::Secret,
            FileKind::Config => Self::Config,
        }
    }
}

/// Secret or config, behind its number on the wire.
///
/// # Errors
/// When it is unspecified or unknown.
pub fn file_kind(number: i32) -> Result<FileKind, DecodeError> {
    match enumerator::<v1::FileKind>("kind", number)? {
        v1::FileKind::Secret => Ok(FileKind::Secret),
        v1::FileKind::Config => Ok(FileKind::Config),
        v1::FileKind::Unspecified => Err(DecodeError::Missing { field: "kind" }),
    }
}

impl From<&FileReference> for v1::FileReference {
    fn from(reference: &FileReference) -> Self {
        let target = match &reference.target {
            FileTarget::File { path, uid, gid, mode } => v1::file_reference::Target::Path(v1::FilePath {
                path: path.clone(),
                uid: *uid,
                gid: *gid,
                mode: Some(*mode),
            }),
            FileTarget::Environment { variable } => v1::file_reference::Target::Variable(variable.clone()),
        };
        Self {
            kind: v1::FileKind::from(reference.kind).into(),
            name: reference.name.to_string(),
            file: reference.file.to_string(),
            content: reference.content,
            pinned: reference.pinned,
            target: Some(target),
        }
    }
}

impl TryFrom<v1::FileReference> for FileReference {
    type Error = DecodeError;

    /// A request need not know the object: it is then the identifier zero, and the manager puts the right one there.
    fn try_from(message: v1::FileReference) -> Result<Self, DecodeError> {
        let kind = file_kind(message.kind)?;
        let file =
            if message.file.is_empty() { FileId::from_bits(0) } else { parse(kind.as_str(), &message.file)? };
        let target = match required("target", message.target)? {
            v1::file_reference::Target::Path(path) => FileTarget::File {
                path: path.path,
                uid: path.uid,
                gid: path.gid,
                mode: path.mode.unwrap_or(FILE_MODE),
            },
            v1::file_reference::Target::Variable(variable) => FileTarget::Environment { variable },
        };
        let name = parse(kind.as_str(), &message.name)?;
        Ok(Self { kind, name, file, content: message.content, pinned: message.pinned, target })
    }
}

/// The object as it is shown: without what its versions contain.
impl From<&File> for v1::File {
    fn from(file: &File) -> Self {
        let contents = file.contents.iter().map(|(number, content)| v1::FileContent {
            number: *number,
            created_at: content.created_at.as_nanos(),
            size: content.data.reveal().len() as u64,
            data: Bytes::new(),
        });
        Self {
            id: file.id.to_string(),
            kind: v1::FileKind::from(file.kind).into(),
            version: file.version.index(),
            created_at: file.created_at.as_nanos(),
            updated_at: file.updated_at.as_nanos(),
            name: file.name.to_string(),
            labels: file.labels.clone().into_iter().collect(),
            template: file.template,
            contents: contents.collect(),
        }
    }
}

/// Secrets and configs as they are stored, with everything.
impl From<&File> for v1::StoredFile {
    fn from(file: &File) -> Self {
        let contents = file.contents.iter().map(|(number, stored)| content(file.id, *number, stored));
        Self { contents: contents.collect(), file: Some(v1::File { contents: Vec::new(), ..file.into() }) }
    }
}

impl TryFrom<v1::StoredFile> for File {
    type Error = DecodeError;

    fn try_from(message: v1::StoredFile) -> Result<Self, DecodeError> {
        let file = required("file", message.file)?;
        let kind = file_kind(file.kind)?;
        let contents = message.contents.into_iter().map(|stored| (stored.number, stored.into()));
        Ok(Self {
            id: parse(kind.as_str(), &file.id)?,
            kind,
            version: Version::new(file.version),
            created_at: timestamp(file.created_at),
            updated_at: timestamp(file.updated_at),
            name: parse(kind.as_str(), &file.name)?,
            labels: file.labels.into_iter().collect(),
            template: file.template,
            contents: contents.collect(),
        })
    }
}

/// One version as it is stored.
#[must_use]
pub fn content(file: FileId, number: u64, content: &Content) -> v1::StoredContent {
    v1::StoredContent {
        file: file.to_string(),
        number,
        created_at: content.created_at.as_nanos(),
        data: content.data.reveal().to_vec().into(),
    }
}

impl From<v1::StoredContent> for Content {
    fn from(stored: v1::StoredContent) -> Self {
        Self { created_at: timestamp(stored.created_at), data: Secret::new(stored.data.into()) }
    }
}
