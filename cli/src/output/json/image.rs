//! Images.

use coracle_proto::v1;
use serde::Serialize;

use crate::output::time;

/// One line of `image ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Image {
    name: String,
    digest: String,
    size_bytes: u64,
    os: String,
    architecture: String,
    created_at: Option<String>,
    holders: u32,
    in_use: bool,
}

impl From<v1::ImageListItem> for Image {
    fn from(item: v1::ImageListItem) -> Self {
        let image = item.image.unwrap_or_default();
        let platform = image.platform.unwrap_or_default();
        Self {
            name: image.name,
            digest: image.digest,
            size_bytes: image.size,
            os: platform.os,
            architecture: platform.architecture,
            created_at: time::rfc3339(image.created_at),
            holders: item.holders,
            in_use: item.in_use,
        }
    }
}
