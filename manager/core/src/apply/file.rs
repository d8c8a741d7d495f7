//! Changes of secrets and configs, and of what services take of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::cluster::Secret;
use coracle_model::id::{FileId, ServiceId};
use coracle_model::secret::{Content, File};
use coracle_model::service::{Service, ServiceSpec, TaskSpec};
use coracle_model::task::Task;
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::outcome::{Refusal, RefusalKind};
use crate::state::refers;

impl Writing {
    pub(super) fn create_file(&mut self, file: &File) -> Applied {
        let (kind, name) = (file.kind, &file.name);
        if self.state.file(file.id).is_some() {
            return Err(Refusal::new(RefusalKind::Exists, format!("{kind} {} exists already", file.id)));
        }
        if let Some(taken) = self.state.file_by_name(kind, name) {
            let message = format!("name: a {kind} named \"{name}\" exists already (id {})", taken.id);
            return Err(Refusal::new(RefusalKind::Exists, message));
        }
        for content in file.contents.values() {
            check_size(file, &content.data)?;
        }
        let mut file = File { created_at: self.time, ..file.clone() };
        file.contents.values_mut().for_each(|content| content.created_at = self.time);
        self.write_file(file);
        Ok(())
    }

    pub(super) fn update_file(
        &mut self,
        id: FileId,
        expected: Version,
        labels: Option<&BTreeMap<String, String>>,
        data: Option<&Secret>,
    ) -> Applied {
        let present = self.state.file(id).cloned().ok_or_else(|| not_found("secret or config", id))?;
        check_version(present.kind.as_str(), id, present.version, expected)?;
        let mut file = (*present).clone();
        if let Some(labels) = labels {
            file.labels.clone_from(labels);
        }
        if let Some(data) = data {
            check_size(&file, data)?;
            let latest = file.latest();
            // Nobody is to be restarted for what is there already.
            if file.contents.get(&latest).is_none_or(|content| content.data != *data) {
                let content = Content { created_at: self.time, data: data.clone() };
                file.contents.insert(latest + 1, content);
            }
        }
        if file != *present {
            self.write_file(file);
        }
        Ok(())
    }

    /// Removes a file that no service refers to. What was wanted of a service before its last change may refer to it: nobody
    /// can go back to that any more.
    pub(super) fn remove_file(&mut self, id: FileId, expected: Version) -> Applied {
        let file = self.state.file(id).cloned().ok_or_else(|| not_found("secret or config", id))?;
        check_version(file.kind.as_str(), id, file.version, expected)?;
        self.check_unused(&file)?;
        let refers = |spec: &ServiceSpec| refers(&spec.task, id);
        let before: Vec<Arc<Service>> = self
            .state
            .services()
            .filter(|service| service.previous_spec.as_deref().is_some_and(refers))
            .cloned()
            .collect();
        for service in before {
            self.touched.services.insert(service.id);
            let service = Service { version: self.version, previous_spec: None, ..(*service).clone() };
            self.state.put_service(Arc::new(service));
        }
        self.state.remove_file(id);
        self.touched.files.insert(id);
        Ok(())
    }

    /// Drops a version that nothing refers to; one that is used by now, or the latest, stays.
    pub(super) fn collect_file(&mut self, id: FileId, number: u64) -> Applied {
        let Some(present) = self.state.file(id).cloned() else { return Ok(()) };
        let present_there = present.contents.contains_key(&number);
        if !present_there || number == present.latest() || self.state.contents_in_use(id).contains(&number) {
            return Ok(());
        }
        let mut file = (*present).clone();
        file.contents.remove(&number);
        // No news for operators: the times stay.
        self.state.put_file(Arc::new(File { version: self.version, ..file }));
        self.touched.files.insert(id);
        Ok(())
    }

    /// Gives a service the newer version of a file that it follows; nothing if it has it or follows it no more.
    pub(super) fn follow_file(&mut self, id: ServiceId, file: FileId, number: u64) -> Applied {
        let present = self.state.service(id).cloned().ok_or_else(|| not_found("service", id))?;
        let mut spec = present.spec.clone();
        let follows = |reference: &&mut coracle_model::secret::FileReference| {
            reference.file == file && !reference.pinned && reference.content < number
        };
        let mut found = false;
        for reference in spec.task.container.files.iter_mut().filter(follows) {
            reference.content = number;
            found = true;
        }
        if found { self.update_service(id, present.version, &spec) } else { Ok(()) }
    }

    /// Whatever the view was that a specification was made from: what it refers to is there.
    pub(super) fn check_files(&self, spec: &TaskSpec) -> Applied {
        for reference in &spec.container.files {
            let there = self.state.file(reference.file).is_some_and(|file| {
                file.kind == reference.kind && file.contents.contains_key(&reference.content)
            });
            if !there {
                let message = format!(
                    "{} {:?}: version {} is not there any more; read it again and repeat",
                    reference.kind,
                    reference.name.as_str(),
                    reference.content
                );
                return Err(Refusal::new(RefusalKind::Stale, message));
            }
        }
        Ok(())
    }

    /// Files that a specification refers to are to be looked at: they may be wanted, or not needed any more.
    pub(super) fn touch_files(&mut self, spec: &TaskSpec) {
        self.touched.files.extend(spec.container.files.iter().map(|reference| reference.file));
    }

    pub(super) fn touch_files_of_task(&mut self, task: &Task) {
        if let Some(spec) = self.state.task_spec(task.service, task.spec_version).cloned() {
            self.touch_files(&spec);
        }
    }

    pub(super) fn touch_files_of_service(&mut self, service: &Service) {
        self.touch_files(&service.spec.task);
        if let Some(previous) = &service.previous_spec {
            self.touch_files(&previous.task);
        }
    }

    fn check_unused(&self, file: &File) -> Applied {
        let (kind, name) = (file.kind, &file.name);
        let forbidden = |users: String| {
            let message = format!("{kind} \"{name}\" is used by {users}");
            Err(Refusal::new(RefusalKind::Forbidden, message))
        };
        let named = self.state.services_with_file(file.id);
        if !named.is_empty() {
            let word = if named.len() == 1 { "the service" } else { "the services" };
            return forbidden(format!("{word} {}", named.join(", ")));
        }
        let running = self.state.services_with_tasks_with_file(file.id);
        let updating = |service: &Service| {
            service.update.as_ref().is_some_and(|update| update.state.is_active())
                && service.previous_spec.as_deref().is_some_and(|spec| refers(&spec.task, file.id))
        };
        let names: Vec<_> = self
            .state
            .services()
            .filter(|service| running.contains(&service.id) || updating(service))
            .map(|service| service.spec.name.as_str())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        forbidden(format!("tasks of {}, which are being replaced; try again later", names.join(", ")))
    }

    fn write_file(&mut self, file: File) {
        self.touched.files.insert(file.id);
        self.state.put_file(Arc::new(File { version: self.version, updated_at: self.time, ..file }));
    }
}

fn check_size(file: &File, data: &Secret) -> Applied {
    let (kind, limit, size) = (file.kind, file.kind.limit(), data.reveal().len());
    if size < limit {
        return Ok(());
    }
    let message =
        format!("{kind} \"{}\": {size} bytes are too many; it must be smaller than {limit}", file.name);
    Err(Refusal::new(RefusalKind::Malformed, message))
}
