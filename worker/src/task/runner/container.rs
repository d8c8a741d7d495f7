//! A task's container: what there is of it, and making it from what is here by now.

use std::collections::BTreeMap;

use coracle_daemon::ErrorChain;
use coracle_model::health::HealthCheck;
use coracle_model::mount::{Mount, MountKind};
use coracle_model::service::TaskSpec;
use tracing::warn;

use super::Workshop;
use crate::assignments::Assignment;
use crate::health::effective;
use crate::launch::{Launch, Place, launch, values};
use crate::task::fsm::Reality;

/// What there is of the container, and how it is checked: that is not kept with it, but its image is here while it is.
pub(super) fn look(workshop: &Workshop, assignment: &Assignment) -> (Reality, Option<HealthCheck>) {
    let reality = workshop.containers.inspect(assignment.id);
    let (Ok(spec), false) = (&assignment.spec, reality == Reality::Absent) else { return (reality, None) };
    match workshop.images.prepare(spec.container.image.digest) {
        Ok(image) => (reality, effective(&spec.container.health, image.config.health_check.as_ref())),
        Err(error) => {
            warn!(error = %ErrorChain(&error), "image of a container cannot be read: only what the service says is checked");
            (reality, effective(&spec.container.health, None))
        }
    }
}

/// A container as it was begun, and how it is checked.
pub(super) enum Begun {
    Made(Option<HealthCheck>),
    /// It is to be prepared, and then made.
    WithVolumes(Box<Launch>, Option<HealthCheck>),
}

/// Makes the container from the image, both of which are this node's by now, unless it has volumes.
pub(super) fn begin(workshop: &Workshop, assignment: &Assignment, leftovers: bool) -> Result<Begun, String> {
    let spec: &TaskSpec = assignment.spec.as_ref().map_err(Clone::clone)?;
    if leftovers {
        workshop.containers.delete(assignment.id).map_err(|error| error.to_string())?;
    }
    let prepared = workshop
        .images
        .prepare(spec.container.image.digest)
        .map_err(|error| ErrorChain(&error).to_string())?;
    let log = workshop.log_directory(assignment.id);
    let values = values(assignment, &workshop.node);
    let mut launch = launch(assignment, spec, &values, &prepared.config, prepared.lower_dirs, log)
        .map_err(|error| error.to_string())?;
    let given = workshop.files.given(&launch.container, &values)?;
    (launch.files, launch.variables) = (given.files, given.variables);
    launch.places = mounted_images(workshop, &launch.mounts)?;
    let check = effective(&spec.container.health, prepared.config.health_check.as_ref());
    if launch.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume { .. })) {
        return Ok(Begun::WithVolumes(Box::new(launch), check));
    }
    workshop.containers.create(&launch).map_err(|error| error.to_string())?;
    Ok(Begun::Made(check))
}

/// The layers of the images that a container mounts, which are this node's by now, too.
fn mounted_images(workshop: &Workshop, mounts: &[Mount]) -> Result<BTreeMap<String, Place>, String> {
    let mut places = BTreeMap::new();
    for mount in mounts {
        let MountKind::Image { image, .. } = &mount.kind else { continue };
        let prepared =
            workshop.images.prepare(image.digest).map_err(|error| ErrorChain(&error).to_string())?;
        places.insert(mount.target.clone(), Place::Layers(prepared.lower_dirs));
    }
    Ok(places)
}
