//! Gives containers their SELinux labels.
//!
//! Stands in front of everything that makes something for a container, because all of it is labelled. The container's own
//! labels (those without SELinux) keep what it has, so that the next daemon gives no other task the same level.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_agent_runtime::SelinuxDefaults;
use coracle_image::tree::set_label;
use coracle_model::id::TaskId;
use coracle_model::security::NamespaceMode;

use super::label::{Labels, compose};
use super::levels::Levels;
use crate::adapters::containers::{ContainerError, Containers, Found, Reality};
use crate::adapters::in_front::InFront;
use crate::launch::{LABEL_SELINUX, Launch, Place};

/// What is known of the node.
pub(crate) struct Node {
    /// What its policy has for containers; none while no policy is in force.
    pub(crate) defaults: Box<dyn Fn() -> Option<SelinuxDefaults> + Send + Sync>,
    /// Containers are labelled also where their services say nothing of it.
    pub(crate) labels_all: bool,
    /// Its name.
    pub(crate) hostname: String,
}

/// Containers with labels.
pub(crate) struct WithLabels {
    containers: Arc<dyn Containers>,
    node: Node,
    levels: Mutex<Levels>,
}

impl WithLabels {
    pub(crate) fn new(containers: Arc<dyn Containers>, node: Node) -> Self {
        Self { containers, node, levels: Mutex::default() }
    }

    fn levels(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The labels of a container; none for one without.
    fn labels(&self, launch: &Launch) -> Result<Option<Labels>, ContainerError> {
        if !self.is_labelled(launch) {
            return Ok(None);
        }
        let options = &launch.container.privileges.selinux;
        let failed = |why: String| ContainerError(format!("security-opt: {why}"));
        let Some(defaults) = (self.node.defaults)() else {
            let asked =
                options.first().map_or("selinux-enabled".to_owned(), |option| format!("label={option}"));
            return Err(failed(format!(
                "{asked}: SELinux is not active on node {}; leave the label out, or have the service run where it is \
                 (--constraint)",
                self.node.hostname
            )));
        };
        // Held until it is kept: no two tasks find the same level free.
        let mut levels = self.levels();
        let categories = levels
            .categories(launch.task)
            .ok_or_else(|| failed("every level is taken by another task of this node".to_owned()))?;
        let labels = compose(&defaults, options, &categories).map_err(failed)?;
        levels.keep(launch.task, labels.process.clone());
        Ok(Some(labels))
    }

    /// Has something done for a container that has its labels.
    fn with_labels(
        &self,
        launch: &Launch,
        go: impl Fn(&Launch) -> Result<(), ContainerError>,
    ) -> Result<(), ContainerError> {
        let Some(labels) = self.labels(launch)? else { return go(launch) };
        let mut launch = launch.clone();
        launch.labels.insert(LABEL_SELINUX.to_owned(), labels.process.clone());
        let done = label_layers(&launch, &labels.layer).and_then(|()| {
            launch.selinux = Some(labels);
            go(&launch)
        });
        if done.is_err() && self.containers.inspect(launch.task) == Reality::Absent {
            self.levels().release(launch.task);
        }
        done
    }

    /// Where nothing is said, what is let loose on the node by other means is not labelled, as with Docker.
    fn is_labelled(&self, launch: &Launch) -> bool {
        let wishes = &launch.container;
        let options = &wishes.privileges.selinux;
        let is_loose =
            wishes.privileges.privileged || [wishes.pid, wishes.ipc].contains(&NamespaceMode::Host);
        match options.as_slice() {
            [] => self.node.labels_all && !is_loose,
            some => !some.iter().any(|option| option == "disable"),
        }
    }
}

/// Layers are labelled when they are first needed: containers without labels do not care.
fn label_layers(launch: &Launch, label: &str) -> Result<(), ContainerError> {
    let mounted = launch.places.values().filter_map(|place| match place {
        Place::Layers(layers) => Some(layers),
        Place::Folder(_) => None,
    });
    for layer in launch.layers.iter().chain(mounted.flatten()) {
        File::open(layer).and_then(|root| set_label(root.as_fd(), label)).map_err(|error| {
            ContainerError(format!("labelling the layer {} of the image: {error}", layer.display()))
        })?;
    }
    Ok(())
}

impl InFront for WithLabels {
    fn behind(&self) -> &dyn Containers {
        self.containers.as_ref()
    }

    fn make_ready(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.with_labels(launch, |launch| self.containers.prepare(launch))
    }

    fn make(&self, launch: &Launch) -> Result<(), ContainerError> {
        self.with_labels(launch, |launch| self.containers.create(launch))
    }

    fn unmake(&self, task: TaskId) -> Result<(), ContainerError> {
        self.containers.delete(task)?;
        self.levels().release(task);
        Ok(())
    }

    fn find(&self) -> Result<Vec<Found>, ContainerError> {
        let found = self.containers.recover()?;
        let mut levels = self.levels();
        for found in &found {
            if let Some(label) = found.labels.get(LABEL_SELINUX) {
                levels.keep(found.task, label.clone());
            }
        }
        drop(levels);
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
