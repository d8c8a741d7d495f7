//! Changes of services.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_model::id::ServiceId;
use coracle_model::job::JobStatus;
use coracle_model::rebalance::RebalanceProgress;
use coracle_model::service::{Service, ServiceMode, ServiceSpec, UpdateProgress, UpdateState};
use coracle_model::task::{Slot, Task};
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::orchestrate::constraints_admit;
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
        self.check_files(&service.spec.task)?;
        self.state.put_task_spec(service.id, self.version, Arc::new(service.spec.task.clone()));
        self.write_service(Service {
            spec_version: self.version,
            created_at: self.time,
            previous_spec: None,
            update: None,
            rebalance: None,
            job: service.spec.mode.is_job().then(|| self.first_run(&service.spec)),
            ..service.clone()
        });
        Ok(())
    }

    pub(super) fn update_service(&mut self, id: ServiceId, expected: Version, spec: &ServiceSpec) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        check_kept(&present.spec, spec)?;
        let mut service = Service { spec: spec.clone(), ..(*present).clone() };
        let changed = spec.task != present.spec.task;
        if changed {
            self.check_files(&spec.task)?;
            self.state.put_task_spec(id, self.version, Arc::new(spec.task.clone()));
            service.spec_version = self.version;
            service.previous_spec = Some(Box::new(present.spec.clone()));
        } else if let Some(previous) = &mut service.previous_spec {
            // Going back undoes the change of the task, and nothing that was set since.
            **previous = ServiceSpec { task: previous.task.clone(), ..spec.clone() };
        }
        if spec.mode.is_job() {
            // More or fewer completions are no reason to do all of it again. What runs by the clock begins when it is due, unless the operator says now.
            let forced = spec.task.force_update != present.spec.task.force_update;
            let begins = spec.job.schedule.is_none() && changed;
            service.job = self.job_from_now_on(&present, spec, begins || forced);
        } else if changed || present.update.as_ref().is_some_and(|update| update.state.is_paused()) {
            // An operator who speaks sets a paused update going again.
            service.update = self.begun_update(id, spec);
        }
        self.write_service(service);
        Ok(())
    }

    /// Swaps the specification with the one before: doing it twice puts the newer one in force again, unless that had failed.
    pub(super) fn roll_back_service(
        &mut self,
        id: ServiceId,
        expected: Version,
        message: &str,
        automatic: bool,
    ) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        let Some(previous) = present.previous_spec.clone() else {
            let message =
                format!("service {}: it has no previous specification to go back to", present.spec.name);
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        };
        self.check_files(&previous.task)?;
        self.state.put_task_spec(id, self.version, Arc::new(previous.task.clone()));
        let mut service = Service {
            spec_version: self.version,
            previous_spec: (!automatic).then(|| Box::new(present.spec.clone())),
            spec: *previous,
            ..(*present).clone()
        };
        if service.spec.mode.is_job() {
            let begins = service.spec.job.schedule.is_none();
            service.job = self.job_from_now_on(&present, &service.spec, begins);
        } else {
            // Also where nothing is to be replaced: that it was rolled back, and when, decides what it follows from now on.
            let slots = self.to_replace(id, &service.spec).max(1);
            let begun = UpdateProgress::begun(UpdateState::RollbackStarted, self.time, slots, message);
            service.update = Some(begun);
        }
        self.write_service(service);
        Ok(())
    }

    /// The replacement that a new specification makes necessary; none when every task satisfies it.
    fn begun_update(&self, id: ServiceId, spec: &ServiceSpec) -> Option<UpdateProgress> {
        let slots = self.to_replace(id, spec);
        let begun = || UpdateProgress::begun(UpdateState::Updating, self.time, slots, "update in progress");
        (slots > 0).then(begun)
    }

    /// Where a job stands of which this is wanted from now on: at the beginning of its next run, or where it stood. A schedule
    /// counts from when it is given: what would have been due before is not made up for.
    fn job_from_now_on(&self, present: &Service, spec: &ServiceSpec, begins: bool) -> Option<JobStatus> {
        let times = |spec: &ServiceSpec| {
            spec.job.schedule.as_ref().map(|schedule| (schedule.cron.clone(), schedule.timezone.clone()))
        };
        match present.job.clone() {
            job if begins => Some(self.next_run(job.as_ref(), spec)),
            Some(job) if times(&present.spec) != times(spec) => {
                Some(JobStatus { scheduled_until: self.time, ..job })
            }
            job => job,
        }
    }

    /// What runs by the clock has not begun yet.
    fn first_run(&self, spec: &ServiceSpec) -> JobStatus {
        let run = u64::from(spec.job.schedule.is_none());
        JobStatus { run, started_at: self.time, scheduled_until: self.time, ..JobStatus::default() }
    }

    fn next_run(&self, present: Option<&JobStatus>, spec: &ServiceSpec) -> JobStatus {
        let schedule = spec.job.schedule.as_ref();
        present.map_or_else(
            || JobStatus::default().next(self.time, schedule),
            |job| job.next(self.time, schedule),
        )
    }

    pub(super) fn set_job_status(&mut self, id: ServiceId, expected: Version, job: &JobStatus) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        if present.job.as_ref() == Some(job) {
            return Ok(());
        }
        self.touched.services.insert(id);
        self.state.put_service(Arc::new(Service {
            version: self.version,
            job: Some(job.clone()),
            ..(*present).clone()
        }));
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

    pub(super) fn set_rebalance(
        &mut self,
        id: ServiceId,
        expected: Version,
        progress: &RebalanceProgress,
    ) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        if present.rebalance.as_deref() == Some(progress) {
            return Ok(());
        }
        let rebalance = Some(Box::new(progress.clone()));
        self.touched.services.insert(id);
        self.state.put_service(Arc::new(Service { version: self.version, rebalance, ..(*present).clone() }));
        Ok(())
    }

    pub(super) fn remove_service(&mut self, id: ServiceId, expected: Version) -> Applied {
        let present = self.present_service(id)?;
        check_version("service", id, present.version, expected)?;
        self.touch_files_of_service(&present);
        self.state.remove_service(id);
        self.touched.services.insert(id);
        // Others may have kept away from its tasks.
        self.touched.pending = true;
        Ok(())
    }

    fn present_service(&self, id: ServiceId) -> Result<Arc<Service>, Refusal> {
        self.state.service(id).cloned().ok_or_else(|| not_found("service", id))
    }

    fn write_service(&mut self, service: Service) {
        self.touched.services.insert(service.id);
        self.touched.pending = true;
        if let Some(present) = self.state.service(service.id).cloned() {
            self.touch_files_of_service(&present);
        }
        self.touch_files_of_service(&service);
        self.state.put_service(Arc::new(Service { version: self.version, updated_at: self.time, ..service }));
    }

    /// Slots whose task does not satisfy the specification, or is where it is not wanted any more. How many tasks a global service
    /// has is for its constraints to say: it loses those of other nodes, and nothing comes in their place.
    fn to_replace(&self, id: ServiceId, next: &ServiceSpec) -> u64 {
        let is_global = next.mode == ServiceMode::Global;
        let excluded = |task: &Task| {
            let node = task.node.and_then(|node| self.state.node(node));
            node.is_some_and(|node| !constraints_admit(&next.task.placement, node))
        };
        let outdated = |task: &&Arc<Task>| {
            let spec = self.state.task_spec(id, task.spec_version);
            let satisfies = spec.is_none_or(|spec| spec.also_satisfies(&next.task));
            task.is_live() && (!satisfies || (!is_global && excluded(task)))
        };
        let slots: BTreeSet<Slot> =
            self.state.tasks_of_service(id).filter(outdated).map(|task| task.slot).collect();
        slots.len() as u64
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
        | (ServiceMode::Global, ServiceMode::Global)
        | (ServiceMode::ReplicatedJob { .. }, ServiceMode::ReplicatedJob { .. })
        | (ServiceMode::GlobalJob, ServiceMode::GlobalJob) => Ok(()),
        (present, next) => forbidden(format!(
            "mode: {} cannot become {}: create another service",
            present.as_str(),
            next.as_str()
        )),
    }
}
