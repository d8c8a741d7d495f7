//! The state as a sequence of records, for snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::cluster::Cluster;
use coracle_model::id::{FileId, IdempotencyKey, NodeId, ServiceId};
use coracle_model::image::ImageEntry;
use coracle_model::node::Node;
use coracle_model::secret::{Content, File};
use coracle_model::service::{Service, TaskSpec};
use coracle_model::task::Task;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::State;

/// One record of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Comes first.
    Header {
        /// The last entry that was applied.
        index: u64,
        /// Cluster time.
        time: Timestamp,
    },
    /// The cluster object.
    Cluster(Arc<Cluster>),
    /// A node.
    Node(Arc<Node>),
    /// A node that lost its place.
    Departed {
        /// Which.
        node: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A service.
    Service(Arc<Service>),
    /// A specification that is in use.
    TaskSpec {
        /// Whose it is.
        service: ServiceId,
        /// The write that made it.
        version: Version,
        /// The specification.
        spec: Arc<TaskSpec>,
    },
    /// A task.
    Task(Arc<Task>),
    /// A row of the image table.
    Image(Arc<ImageEntry>),
    /// A secret or a config without what its versions contain.
    File(Arc<File>),
    /// One version of the content of a file that came before it.
    Content {
        /// Whose it is.
        file: FileId,
        /// Its number.
        number: u64,
        /// What it contains.
        content: Content,
    },
    /// The mark of a write that was applied.
    AppliedKey {
        /// The mark.
        key: IdempotencyKey,
        /// Where it was applied.
        index: u64,
    },
}

/// Why records do not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The first record is not the header, or there is none.
    #[error("snapshot does not begin with its header")]
    NoHeader,
    /// A second header.
    #[error("snapshot has two headers: two snapshots were joined or a record was repeated")]
    TwoHeaders,
    /// Content belongs to a secret or a config that did not come before it.
    #[error("version {number} of secret or config {file} is not behind the object that it belongs to")]
    NoFile {
        /// Whose it is.
        file: FileId,
        /// Its number.
        number: u64,
    },
    /// A task refers to a specification that did not come before it.
    #[error(
        "task {task} refers to specification {version} of service {service}, which is not in front of it"
    )]
    NoTaskSpec {
        /// The task.
        task: String,
        /// Its service.
        service: ServiceId,
        /// The version that is missing.
        version: Version,
    },
}

impl State {
    /// All that is to be stored; specifications come before the tasks that refer to them.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let header = Record::Header { index: self.index, time: self.time };
        let specs = self.task_specs().map(|(service, version, spec)| Record::TaskSpec {
            service,
            version,
            spec: Arc::clone(spec),
        });
        std::iter::once(header)
            .chain(self.cluster.iter().cloned().map(Record::Cluster))
            .chain(self.nodes.values().cloned().map(Record::Node))
            .chain(self.departed.iter().map(|(node, at)| Record::Departed { node: *node, at: *at }))
            .chain(self.services.values().cloned().map(Record::Service))
            .chain(specs)
            .chain(self.tasks.values().cloned().map(Record::Task))
            .chain(self.images.values().cloned().map(Record::Image))
            .chain(self.files.values().flat_map(file_records))
            .chain(self.applied_keys.iter().map(|(key, index)| Record::AppliedKey { key, index }))
    }

    /// The state that these records describe, indices and all.
    ///
    /// # Errors
    /// When the records are not those of one whole state.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, RestoreError> {
        let mut records = records.into_iter();
        let Some(Record::Header { index, time }) = records.next() else { return Err(RestoreError::NoHeader) };
        let mut state = Self { index, time, ..Self::default() };
        records.try_for_each(|record| state.restore(record))?;
        Ok(state)
    }

    fn restore(&mut self, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::Header { .. } => return Err(RestoreError::TwoHeaders),
            Record::Cluster(cluster) => self.put_cluster(cluster),
            Record::Node(node) => self.put_node(node),
            Record::Departed { node, at } => drop(self.departed.insert(node, at)),
            Record::Service(service) => self.put_service(service),
            Record::TaskSpec { service, version, spec } => self.put_task_spec(service, version, spec),
            Record::Task(task) => {
                let (service, version) = (task.service, task.spec_version);
                if self.task_spec(service, version).is_none() {
                    return Err(RestoreError::NoTaskSpec { task: task.id.to_string(), service, version });
                }
                self.put_task(task);
            }
            Record::Image(image) => self.put_image(image),
            Record::File(file) => self.put_file(file),
            Record::Content { file, number, content } => {
                let Some(present) = self.file(file) else {
                    return Err(RestoreError::NoFile { file, number });
                };
                let mut present = (**present).clone();
                present.contents.insert(number, content);
                self.put_file(Arc::new(present));
            }
            Record::AppliedKey { key, index } => self.put_applied_key(key, index),
        }
        Ok(())
    }
}

/// The object, then its versions one by one: together they can be larger than a record may be.
fn file_records(file: &Arc<File>) -> impl Iterator<Item = Record> + '_ {
    let object = metadata(file);
    let content = |(number, content): (&u64, &Content)| Record::Content {
        file: file.id,
        number: *number,
        content: content.clone(),
    };
    std::iter::once(Record::File(Arc::new(object))).chain(file.contents.iter().map(content))
}

fn metadata(file: &File) -> File {
    File {
        id: file.id,
        kind: file.kind,
        version: file.version,
        created_at: file.created_at,
        updated_at: file.updated_at,
        name: file.name.clone(),
        labels: file.labels.clone(),
        template: file.template,
        contents: BTreeMap::new(),
    }
}
