//! Rows of the image table.

use coracle_model::image::ImageEntry;
use coracle_model::version::Version;

use super::{DecodeError, parse, timestamp};
use crate::v1;

impl From<&ImageEntry> for v1::ImageEntry {
    fn from(entry: &ImageEntry) -> Self {
        Self {
            name: entry.name.clone(),
            version: entry.version.index(),
            digest: entry.digest.to_string(),
            size: entry.size,
            platform: Some((&entry.platform).into()),
            created_at: entry.created_at.as_nanos(),
        }
    }
}

impl TryFrom<v1::ImageEntry> for ImageEntry {
    type Error = DecodeError;

    fn try_from(message: v1::ImageEntry) -> Result<Self, DecodeError> {
        Ok(Self {
            digest: parse("image digest", &message.digest)?,
            name: message.name,
            version: Version::new(message.version),
            size: message.size,
            platform: message.platform.unwrap_or_default().into(),
            created_at: timestamp(message.created_at),
        })
    }
}
