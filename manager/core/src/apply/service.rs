//! Changes of services.

use std::sync::Arc;

use coracle_model::id::ServiceId;
use coracle_model::service::{Service, ServiceMode, ServiceSpec, TaskSpec, UpdateProgress, UpdateState};
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::outcome::{Refusal, RefusalKind};

impl Writing {
    pub(super) fn create_service(&mut self, service: &Service) -> Applied {
        if self.state.service(service.id).is_some() {
            return Err(Refusal::new(RefusalKind::Exists, format!("service {} exists already", service.id)));
        }
        let name = &service.spec.name;
        if let Some(taken) = self.state.service_by_name(name) {
            let message = format!("name: a service named \"{name}\" exists already (id {})", taken.id);
            return Err(Refusal::new(RefusalKind::Exists, message));
        }
        if self.state.tasks_of_service(service.id).next().is_some() {
            let message =
                format!("service {}: tasks of a removed service with this id still exist", service.id);
            return Err(Refusal::new(RefusalKind::Exists, message));
        }
        self.state.put_task_spec(service.id, self.version, Arc::new(service.spec.task.clone()));
        self.write_service(Service {
            spec_version: self.version,
            created_at: self.time,
            previous_spec: None,
            update: None,
            ..service.clone()
        });
        Ok(())
    }

    pub(super) fn update_service(&mut self, id: ServiceId, expected: Version, spec: &ServiceSpec) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        check_kept(&present.spec, spec)?;
        let mut service = Service { spec: spec.clone(), ..(*present).clone() };
        if spec.task != present.spec.task {
            self.state.put_task_spec(id, self.version, Arc::new(spec.task.clone()));
            service.spec_version = self.version;
            service.previous_spec = Some(Box::new(present.spec.clone()));
            service.update = self.must_replace(id, &spec.task).then(|| UpdateProgress {
                state: UpdateState::Updating,
                started_at: self.time,
                completed_at: None,
                message: "update in progress".to_owned(),
            });
        }
        self.write_service(service);
        Ok(())
    }

    pub(super) fn set_update_progress(
        &mut self,
        id: ServiceId,
        expected: Version,
        progress: &UpdateProgress,
    ) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        if present.update.as_ref() == Some(progress) {
            return Ok(());
        }
        // Progress is no change of what is wanted: the time of the last update stays.
        let service = Service { version: self.version, update: Some(progress.clone()), ..(*present).clone() };
        self.touched.services.insert(id);
        self.state.put_service(Arc::new(service));
        Ok(())
    }

    pub(super) fn remove_service(&mut self, id: ServiceId, expected: Version) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        self.state.remove_service(id);
        self.touched.services.insert(id);
        Ok(())
    }

    fn present_service(&self, id: ServiceId) -> Result<Arc<Service>, Refusal> {
        self.state.service(id).cloned().ok_or_else(|| not_found("service", id))
    }

    fn write_service(&mut self, service: Service) {
        self.touched.services.insert(service.id);
        self.touched.pending = true;
        self.state.put_service(Arc::new(Service { version: self.version, updated_at: self.time, ..service }));
    }

    fn must_replace(&self, id: ServiceId, next: &TaskSpec) -> bool {
        self.state
            .tasks_of_service(id)
            .filter(|task| task.is_live())
            .filter_map(|task| self.state.task_spec(id, task.spec_version))
            .any(|spec| !spec.also_satisfies(next))
    }
}

/// What an update may not change.
fn check_kept(present: &ServiceSpec, next: &ServiceSpec) -> Applied {
    let forbidden = |message: String| Err(Refusal::new(RefusalKind::Forbidden, message));
    if present.name != next.name {
        return forbidden(format!(
            "name: \"{}\" cannot become \"{}\": renaming is not supported",
            present.name, next.name
        ));
    }
    match (present.mode, next.mode) {
        (ServiceMode::Replicated { .. }, ServiceMode::Replicated { .. })
        | (ServiceMode::Global, ServiceMode::Global) => Ok(()),
        (present, next) => forbidden(format!(
            "mode: {} cannot become {}: create another service",
            present.as_str(),
            next.as_str()
        )),
    }
}
