//! Secrets and configs.

use std::collections::BTreeMap;

use coracle_proto::v1;
use serde::Serialize;

use crate::output::time;

/// `secret inspect` and `config inspect`, and one line of their lists.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    id: String,
    version: u64,
    created_at: Option<String>,
    updated_at: Option<String>,
    name: String,
    labels: BTreeMap<String, String>,
    template: bool,
    /// The version of the content that services follow.
    latest: u64,
    contents: Vec<Content>,
    /// The names of those that use it.
    services: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Content {
    number: u64,
    created_at: Option<String>,
    size_bytes: u64,
    /// Of configs that are inspected; what is no UTF-8 is shown as U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl File {
    pub(crate) fn new(file: v1::File, services: Vec<String>) -> Self {
        let latest = latest(&file).map_or(0, |content| content.number);
        let content = |content: v1::FileContent| Content {
            number: content.number,
            created_at: time::rfc3339(content.created_at),
            size_bytes: content.size,
            data: (!content.data.is_empty()).then(|| String::from_utf8_lossy(&content.data).into_owned()),
        };
        Self {
            id: file.id,
            version: file.version,
            created_at: time::rfc3339(file.created_at),
            updated_at: time::rfc3339(file.updated_at),
            name: file.name,
            labels: file.labels.into_iter().collect(),
            template: file.template,
            latest,
            contents: file.contents.into_iter().map(content).collect(),
            services,
        }
    }
}

/// The version that services follow.
pub(crate) fn latest(file: &v1::File) -> Option<&v1::FileContent> {
    file.contents.iter().max_by_key(|content| content.number)
}
