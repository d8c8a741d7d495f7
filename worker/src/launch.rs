//! What is run for a task: its specification over what its image says, by Docker's rules.
//!
//! Pure. Arguments of the service replace the image's command and follow its entry point; variables of the service
//! replace those of the image one by one; everything else that the service leaves empty is the image's.

mod generic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_image::ImageConfig;
use coracle_image::document::config::StopSignal;
use coracle_model::id::TaskId;
use coracle_model::mount::{Mount, MountKind};
use coracle_model::resources::Limits;
use coracle_model::security::NamespaceMode;
use coracle_model::service::{ContainerSpec, NetworkMode, TaskSpec};
use coracle_model::template::{NodeFacts, Values};
use coracle_model::validate::{self, Invalid};

use crate::assignments::Assignment;
use crate::files::LaunchFile;
use crate::files::content::LaunchVariable;
use crate::selinux::Labels;

/// Where programs are looked for when neither image nor service says so; Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Characters of the task's id that become the host name.
const HOSTNAME_LENGTH: usize = 12;
/// SIGTERM, signal(7).
const SIGTERM: i32 = 15;

/// Label of a container with the id of its task, by which it is known again when the journal is lost.
pub const LABEL_TASK: &str = "coracle.task";
/// Label of a container with the id of its service.
pub const LABEL_SERVICE: &str = "coracle.service";
/// Label of a container with the name of its service.
pub const LABEL_SERVICE_NAME: &str = "coracle.service.name";
/// Label of a container with its stop signal's number.
pub const LABEL_STOP_SIGNAL: &str = "coracle.stop-signal";
/// Label of a container with the milliseconds between its stop signal and the kill.
pub const LABEL_STOP_GRACE: &str = "coracle.stop-grace-milliseconds";
/// Label of a container with the names of the volumes that it mounts, with commas between.
pub const LABEL_VOLUMES: &str = "coracle.volumes";

/// Label of a container with the SELinux label of its processes.
pub const LABEL_SELINUX: &str = "coracle.selinux";

/// Where on this node that is which a container mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The folder of a volume.
    Folder(PathBuf),
    /// The unpacked layers of an image, the top one first.
    Layers(Vec<PathBuf>),
}

/// A container to be made: everything decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The task, whose id is also the container's.
    pub task: TaskId,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE` each, names unique.
    pub environment: Vec<String>,
    /// Absolute.
    pub working_directory: String,
    /// `USER[:GROUP]`; empty is root.
    pub user: String,
    /// Host name inside.
    pub hostname: String,
    /// Lower directories of the root, the top one first.
    pub layers: Vec<PathBuf>,
    /// The root refuses writes.
    pub read_only: bool,
    /// Mounts besides the root.
    pub mounts: Vec<Mount>,
    /// Where volumes and mounted images are, by target; whoever has them adds them.
    pub places: BTreeMap<String, Place>,
    /// Secrets and configs.
    pub files: Vec<LaunchFile>,
    /// Secrets and configs that are variables; no other variable has their names.
    pub variables: Vec<LaunchVariable>,
    /// SELinux labels; whoever knows the node's policy adds them.
    pub selinux: Option<Labels>,
    /// How it reaches the network.
    pub network: NetworkMode,
    /// What it may use; zero is no limit.
    pub limits: Limits,
    /// Kept with the container.
    pub labels: BTreeMap<String, String>,
    /// Folder of its log.
    pub log_directory: PathBuf,
    /// Signal that asks it to stop.
    pub stop_signal: i32,
    /// What the service says of everything else.
    pub container: ContainerSpec,
}

/// Why a task's specification and image make no container. The task is rejected with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("image {0} has neither an entry point nor a command: give the service arguments")]
    NoCommand(String),
    #[error("stop-signal: invalid value {value:?}: {reason}")]
    StopSignal { value: String, reason: String },
    #[error("{0} (with placeholders filled in)")]
    Placeholders(#[from] Invalid),
}

/// What the placeholders of a task stand for on this node.
pub(crate) fn values(assignment: &Assignment, node: &NodeFacts) -> Values {
    let service = (assignment.service, assignment.service_name.as_str(), &assignment.service_labels);
    Values::of(service, node, assignment.id, assignment.slot)
}

/// Puts the two together, and fills in the placeholders.
pub(crate) fn launch(
    assignment: &Assignment,
    spec: &TaskSpec,
    values: &Values,
    image: &ImageConfig,
    layers: Vec<PathBuf>,
    log_directory: PathBuf,
) -> Result<Launch, LaunchError> {
    let container = &mut validate::filled(&spec.container, values)?;
    container.devices = generic::with_devices(std::mem::take(&mut container.devices), &assignment.generic);
    let hostname = hostname(assignment.id, &container.hostname);
    let stop_signal = stop_signal(container, image)?;
    Ok(Launch {
        task: assignment.id,
        arguments: arguments(container, image)?,
        environment: generic::with_variables(
            environment(&image.environment, &container.env, own_name(container, &hostname)),
            &assignment.generic,
        ),
        working_directory: first_of(&container.workdir, image.working_directory.as_deref(), "/"),
        user: first_of(&container.user, image.user.as_deref(), ""),
        hostname,
        layers,
        read_only: container.read_only,
        mounts: mounts(container, image),
        places: BTreeMap::new(),
        // Whoever has them adds them.
        files: Vec::new(),
        variables: Vec::new(),
        selinux: None,
        network: spec.network,
        limits: spec.limits.clone(),
        labels: labels(assignment, container, stop_signal),
        log_directory,
        stop_signal,
        container: container.clone(),
    })
}

fn first_of(service: &str, image: Option<&str>, default: &str) -> String {
    match (service, image) {
        ("", None | Some("")) => default.to_owned(),
        ("", Some(image)) => image.to_owned(),
        (service, _) => service.to_owned(),
    }
}

/// Those of the service, and a volume of the task's own for each folder that the image wants kept apart, unless something is
/// mounted there.
fn mounts(container: &ContainerSpec, image: &ImageConfig) -> Vec<Mount> {
    let plain = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    let taken: Vec<_> = container.mounts.iter().map(|mount| plain(&mount.target)).collect();
    let wanted = image.volumes.iter().filter(|path| !taken.contains(&plain(path)));
    let own = |path: &String| Mount {
        target: path.clone(),
        read_only: false,
        kind: MountKind::Volume {
            name: String::new(),
            labels: BTreeMap::new(),
            no_copy: false,
            subpath: String::new(),
        },
    };
    container.mounts.iter().cloned().chain(wanted.map(own)).collect()
}

fn hostname(task: TaskId, wanted: &str) -> String {
    if wanted.is_empty() {
        task.to_string().chars().take(HOSTNAME_LENGTH).collect()
    } else {
        wanted.to_owned()
    }
}

/// The name that the environment tells; none where it is the node's.
fn own_name<'a>(container: &ContainerSpec, hostname: &'a str) -> Option<&'a str> {
    (container.uts == NamespaceMode::Private).then_some(hostname)
}

fn arguments(container: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, LaunchError> {
    // An entry point of the service's own also drops the image's command, which was written for the other one. One empty
    // word stands for no entry point at all.
    let own = !container.entrypoint.is_empty();
    let entrypoint = if own { &container.entrypoint } else { &image.entrypoint };
    let entrypoint = if entrypoint.as_slice() == [""] { &[] } else { entrypoint.as_slice() };
    let command = if container.args.is_empty() && !own { &image.command } else { &container.args };
    let arguments: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    match arguments.first() {
        Some(program) if !program.is_empty() => Ok(arguments),
        _ => Err(LaunchError::NoCommand(container.image.reference.clone())),
    }
}

fn stop_signal(container: &ContainerSpec, image: &ImageConfig) -> Result<i32, LaunchError> {
    match container.stop_signal.as_str() {
        "" => Ok(image.stop_signal.map_or(SIGTERM, StopSignal::number)),
        value => value
            .parse::<StopSignal>()
            .map(StopSignal::number)
            .map_err(|error| LaunchError::StopSignal { value: value.to_owned(), reason: error.to_string() }),
    }
}

/// Defaults, then the image's, then the service's; a later one takes an earlier one's place. A service's
/// entry without `=` removes the variable, as Docker has it.
fn environment(image: &[String], service: &[String], hostname: Option<&str>) -> Vec<String> {
    let path = format!("PATH={DEFAULT_PATH}");
    let defaults: Vec<String> =
        [path].into_iter().chain(hostname.map(|hostname| format!("HOSTNAME={hostname}"))).collect();
    let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
    for entry in defaults.iter().chain(image).chain(service) {
        let (name, value) =
            entry.split_once('=').map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        match entries.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => entries.push((name, value)),
        }
    }
    entries.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))).collect()
}

fn labels(assignment: &Assignment, container: &ContainerSpec, stop_signal: i32) -> BTreeMap<String, String> {
    let mut labels = container.labels.clone();
    // Whoever has the volumes, or knows of SELinux, adds it.
    labels.remove(LABEL_VOLUMES);
    labels.remove(LABEL_SELINUX);
    let own = [
        (LABEL_TASK, assignment.id.to_string()),
        (LABEL_SERVICE, assignment.service.to_string()),
        (LABEL_SERVICE_NAME, assignment.service_name.clone()),
        (LABEL_STOP_SIGNAL, stop_signal.to_string()),
        (LABEL_STOP_GRACE, container.stop_grace.as_millis().to_string()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    labels
}

#[cfg(test)]
mod tests;
