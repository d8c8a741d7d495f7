//! Making a container.

use super::{Entry, Runtime, Shared, exists, locked, supervisor};
use crate::cgroup::Devices;
use crate::directory::ContainerFile;
use crate::error::RuntimeError;
use crate::id::ContainerId;
use crate::plan;
use crate::prepare::{self, Prepared};
use crate::spec::{ContainerSpec, Mount};
use crate::status::{self, Status};
use coracle_runtime_protocol::Report;
use std::sync::Arc;

impl Runtime {
    /// Either everything is made, or nothing is left of it.
    pub(super) fn make(
        &self,
        id: &ContainerId,
        spec: &ContainerSpec,
        start_at_once: bool,
    ) -> Result<Status, RuntimeError> {
        let prepared = prepare::prepare(spec, &self.shared.config.cdi_folders)?;
        self.shared.reserve(id, &prepared.spec)?;
        let started = self.shared.build(id, &prepared, start_at_once);
        match started.and_then(|status| self.watch(id).map(|()| status)) {
            Ok(status) => Ok(status),
            Err(error) => {
                // The caller never learns that there was a container, so nobody is to be told of its end.
                self.shared.update(id, |entry| entry.status = Status::Unknown);
                let mut leftovers = Vec::new();
                self.shared.remove(id, &mut leftovers);
                for leftover in &leftovers {
                    tracing::warn!(container = %id, error = %leftover, "left behind by a container that failed");
                }
                if leftovers.is_empty() {
                    locked(&self.shared.containers).remove(id);
                }
                self.shared.changed.notify_all();
                Err(error)
            }
        }
    }

    /// The watcher may see the end before the caller sees the start; the status is set, so that is fine.
    fn watch(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let supervisor = locked(&self.shared.containers).get(id).and_then(|entry| entry.supervisor.clone());
        supervisor.map_or(Ok(()), |supervisor| self.watcher.add(id, supervisor))
    }
}

fn suspects(prepared: &Prepared) -> supervisor::Suspects<'_> {
    let sources = prepared.spec.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind { source, .. } => Some(source.as_path()),
        Mount::Tmpfs { .. } | Mount::Layers { .. } => None,
    });
    let hooks = prepared.hooks.iter().map(|hook| hook.path.as_path());
    supervisor::Suspects { sources: sources.collect(), hooks: hooks.collect() }
}

impl Shared {
    /// Takes the name, so that only one call makes this container.
    fn reserve(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut containers = locked(&self.containers);
        if containers.contains_key(id) || exists(&self.directory(id).state) {
            return Err(RuntimeError::AlreadyExists(id.clone()));
        }
        let entry = Entry {
            status: Status::Unknown,
            supervisor: None,
            labels: spec.labels.clone(),
            log_directory: self.log_directory(id, spec),
        };
        containers.insert(id.clone(), entry);
        Ok(())
    }

    fn build(
        &self,
        id: &ContainerId,
        prepared: &Prepared,
        start_at_once: bool,
    ) -> Result<Status, RuntimeError> {
        let spec = &prepared.spec;
        let directory = self.directory(id);
        let file = ContainerFile {
            created_at: status::now(),
            boot_id: self.boot_id.clone(),
            labels: spec.labels.clone(),
            log_directory: self.log_directory(id, spec),
        };
        directory.create(spec, &file)?;
        if !prepared.hooks.is_empty() {
            directory.write_bundle(spec.read_only_rootfs)?;
        }
        let devices = Devices { all: spec.privileged, found: &prepared.devices };
        let membership = self.cgroups.create(id, &spec.resources, &devices)?;
        let plan = plan::build(&plan::Input {
            id,
            spec,
            directory: &directory,
            membership: &membership,
            log_directory: self.log_directory(id, spec),
            devices: &prepared.devices,
            hooks: &prepared.hooks,
            seccomp: prepared.seccomp.clone(),
            host_masks: &self.host_masks,
            start_at_once,
            setup_timeout: self.config.setup_timeout,
        });
        coracle_crash_point::crash_point!("supervisor.before-start");
        let (process, answer) = supervisor::spawn(id, &self.program, &plan)?;
        coracle_crash_point::crash_point!("supervisor.after-start");
        let process = Arc::new(process);
        self.update(id, |entry| entry.supervisor = Some(Arc::clone(&process)));
        let patience = self.config.setup_timeout;
        let status = match supervisor::read_report(id, answer, patience, &suspects(prepared))? {
            Report::Failed(failure) => return Err(RuntimeError::Setup { id: id.clone(), failure }),
            Report::Created { .. } => Status::Created,
            Report::Started { init_pid, started_at } => {
                Status::Running { pid: init_pid, started_at: status::time(started_at) }
            }
        };
        coracle_crash_point::crash_point!("container.created");
        self.update(id, |entry| entry.status = status.clone());
        Ok(status)
    }

    fn update(&self, id: &ContainerId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = locked(&self.containers).get_mut(id) {
            change(entry);
        }
        self.changed.notify_all();
    }
}
