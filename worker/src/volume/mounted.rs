//! Gives containers their volumes.
//!
//! Stands in front of the runtime: makes what a container mounts and is not there yet, fills it from the image, and notes
//! who uses what. A label of the container keeps the names, so that the next daemon knows them too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_daemon::ErrorChain;
use coracle_model::id::TaskId;
use coracle_model::mount::MountKind;

use super::disk::own_name;
use super::image_view::copy_from;
use super::usage::{Fill, Wanted};
use super::{VolumeError, VolumeStore, VolumeUser};
use crate::adapters::containers::{ContainerError, Containers, Found, Reality};
use crate::adapters::in_front::InFront;
use crate::launch::{LABEL_SERVICE_NAME, LABEL_VOLUMES, Launch, Place};

/// Containers with volumes.
pub(crate) struct WithVolumes {
    containers: Arc<dyn Containers>,
    volumes: VolumeStore,
    /// For what is needed while a volume is filled; need not survive a reboot.
    views: PathBuf,
    next: AtomicU64,
}

impl WithVolumes {
    pub(crate) fn new(containers: Arc<dyn Containers>, volumes: VolumeStore, views: PathBuf) -> Self {
        // A daemon that was killed leaves only links there.
        let _ = std::fs::remove_dir_all(&views);
        Self { containers, volumes, views, next: AtomicU64::new(0) }
    }

    /// Where each volume of the container is, by target; and their names.
    fn places(&self, launch: &Launch) -> Result<(BTreeMap<String, Place>, BTreeSet<String>), ContainerError> {
        let service = launch.labels.get(LABEL_SERVICE_NAME).cloned().unwrap_or_default();
        let user = VolumeUser { task: launch.task, service };
        let (mut places, mut names) = (BTreeMap::new(), BTreeSet::new());
        for (index, mount) in launch.mounts.iter().enumerate() {
            let MountKind::Volume { name, labels, no_copy, subpath } = &mount.kind else { continue };
            let is_own = name.is_empty();
            let name = if is_own { own_name(launch.task, index) } else { name.clone() };
            let fill = |data: &Path| self.fill(launch, &mount.target, data);
            // Of a part of a volume the image can say nothing.
            let fill: Option<Fill<'_>> = (!no_copy && subpath.is_empty()).then_some(&fill);
            let wanted = Wanted { name: &name, labels, is_own };
            let data = self
                .volumes
                .take(&user, wanted, fill)
                .and_then(|data| self.label(&name, launch).map(|()| data))
                .map_err(|error| ContainerError(format!("mount {}: {}", mount.target, ErrorChain(&error))))?;
            places.insert(mount.target.clone(), Place::Folder(data));
            names.insert(name);
        }
        Ok((places, names))
    }

    /// What there may be of a container is deleted before the next try, and by then its volumes are no more its.
    fn or_release(&self, task: TaskId, made: Result<(), ContainerError>) -> Result<(), ContainerError> {
        if made.is_err() && self.containers.inspect(task) == Reality::Absent {
            self.volumes.release(task);
        }
        made
    }

    /// Tasks of all levels may use what they share. A volume that nobody with a label uses keeps the labels that it has.
    fn label(&self, name: &str, launch: &Launch) -> Result<(), VolumeError> {
        launch.selinux.as_ref().map_or(Ok(()), |labels| self.volumes.label(name, &labels.shared))
    }

    fn fill(&self, launch: &Launch, target: &str, data: &Path) -> Result<u64, String> {
        let view = self.views.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        copy_from(&launch.layers, target, data, view)
    }
}

impl InFront for WithVolumes {
    fn behind(&self) -> &dyn Containers {
        self.containers.as_ref()
    }

    fn make_ready(&self, launch: &Launch) -> Result<(), ContainerError> {
        let ready = self.places(launch).and_then(|_| self.containers.prepare(launch));
        self.or_release(launch.task, ready)
    }

    fn make(&self, launch: &Launch) -> Result<(), ContainerError> {
        if !launch.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume { .. })) {
            return self.containers.create(launch);
        }
        let created = self.places(launch).and_then(|(places, names)| {
            let mut launch = launch.clone();
            launch.places.extend(places);
            let names: Vec<String> = names.into_iter().collect();
            launch.labels.insert(LABEL_VOLUMES.to_owned(), names.join(","));
            self.containers.create(&launch)
        });
        self.or_release(launch.task, created)
    }

    fn unmake(&self, task: TaskId) -> Result<(), ContainerError> {
        self.containers.delete(task)?;
        self.volumes.release(task);
        Ok(())
    }

    fn find(&self) -> Result<Vec<Found>, ContainerError> {
        let found = self.containers.recover()?;
        let user = |found: &Found| {
            let names = found.labels.get(LABEL_VOLUMES)?.split(',').map(str::to_owned).collect();
            let service = found.labels.get(LABEL_SERVICE_NAME).cloned().unwrap_or_default();
            Some((VolumeUser { task: found.task, service }, names))
        };
        let users: Vec<(VolumeUser, Vec<String>)> = found.iter().filter_map(user).collect();
        self.volumes.recover(&users);
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
