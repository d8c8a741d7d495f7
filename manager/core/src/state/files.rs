//! Secrets and configs: the table, and who uses what of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_model::id::{FileId, ServiceId};
use coracle_model::secret::{File, FileKind, FileName, FileReference};
use coracle_model::service::TaskSpec;
use coracle_model::task::{DesiredState, Task};

use super::State;

impl State {
    /// One secret or config.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&Arc<File>> {
        self.files.get(&id)
    }

    /// The secret or config of this name.
    #[must_use]
    pub fn file_by_name(&self, kind: FileKind, name: &FileName) -> Option<&Arc<File>> {
        self.files.get(self.indices.file_names.get(&(kind, name.clone()))?)
    }

    /// All secrets and configs.
    pub fn files(&self) -> impl DoubleEndedIterator<Item = &Arc<File>> + '_ {
        self.files.values()
    }

    /// The services whose specification refers to a file, by name.
    #[must_use]
    pub fn services_with_file(&self, id: FileId) -> Vec<&str> {
        let mut names: Vec<_> = self
            .services()
            .filter(|service| refers(&service.spec.task, id))
            .map(|service| service.spec.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    /// The services of which a task that is wanted is still made with a file, whatever their specification says by now.
    #[must_use]
    pub fn services_with_tasks_with_file(&self, id: FileId) -> BTreeSet<ServiceId> {
        self.task_specs
            .iter()
            .filter(|(_, row)| row.tasks > 0 && refers(&row.spec, id))
            .filter(|((service, version), _)| {
                self.tasks_of_service(*service)
                    .any(|task| task.spec_version == *version && self.needs_files(task))
            })
            .map(|((service, _), _)| *service)
            .collect()
    }

    /// Versions of a file that a specification, the one before it, or a task that has not ended refers to.
    #[must_use]
    pub fn contents_in_use(&self, id: FileId) -> BTreeSet<u64> {
        let wanted = self.services().flat_map(|service| {
            let previous = service.previous_spec.as_deref().map(|spec| &spec.task);
            std::iter::once(&service.spec.task).chain(previous)
        });
        let present = self
            .task_specs
            .iter()
            .filter(|(_, row)| row.tasks > 0 && refers(&row.spec, id))
            .filter(|((service, version), _)| {
                self.tasks_of_service(*service)
                    .any(|task| task.spec_version == *version && !task.status.state.is_terminal())
            })
            .map(|(_, row)| &*row.spec);
        wanted
            .chain(present)
            .flat_map(|spec| references(spec, id))
            .map(|reference| reference.content)
            .collect()
    }

    /// Whether a task's node is to have the files of its specification: not any more once it is to stop, for whatever it
    /// runs has them already.
    #[must_use]
    pub fn needs_files(&self, task: &Task) -> bool {
        task.desired <= DesiredState::Running
            && !task.status.state.is_terminal()
            && self.service(task.service).is_some()
    }

    pub(crate) fn put_file(&mut self, file: Arc<File>) {
        self.indices.file_names.insert((file.kind, file.name.clone()), file.id);
        self.files.insert(file.id, file);
    }

    pub(crate) fn remove_file(&mut self, id: FileId) {
        if let Some(file) = self.files.remove(&id) {
            self.indices.file_names.remove(&(file.kind, file.name.clone()));
        }
    }
}

/// How a specification refers to a file.
pub(crate) fn references(spec: &TaskSpec, id: FileId) -> impl Iterator<Item = &FileReference> + '_ {
    spec.container.files.iter().filter(move |reference| reference.file == id)
}

/// Whether a specification refers to a file.
pub(crate) fn refers(spec: &TaskSpec, id: FileId) -> bool {
    references(spec, id).next().is_some()
}
