//! Cgroups: limits, membership, devices, numbers and the end of everything in one, on version 1 and 2.
//!
//! A container has the cgroup `<parent>/<id>` (in every hierarchy on v1); all supervisors share
//! `<parent>/supervisors`, so that a restart of the daemon by a service manager leaves them alone. What is written for
//! a limit is decided by the pure functions in [`v1`] and [`v2`].

mod devices;
mod host;
mod kill;
mod stats;
mod v1;
mod v2;

pub use host::CgroupVersion;
pub use stats::Stats;

pub(crate) use host::{Hierarchy, Host};

use crate::error::{IoContext, RuntimeError};
use crate::id::ContainerId;
use crate::spec::Resources;
use coracle_runtime_protocol::OutOfMemoryCounter;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the cgroup of all supervisors.
pub(crate) const SUPERVISORS: &str = "supervisors";
/// A cgroup stays busy for a moment after its last process was killed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);

/// One value for one file of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Controller on v1; on v2 all files are in one directory.
    pub(crate) controller: &'static str,
    pub(crate) file: &'static str,
    pub(crate) value: String,
    /// Whether a kernel without this file may go on (swap accounting is often off).
    pub(crate) optional: bool,
    /// The wish of the specification that it stands for, named when the kernel refuses it.
    pub(crate) field: Option<&'static str>,
}

impl Write {
    fn new(controller: &'static str, file: &'static str, value: impl ToString) -> Self {
        Self { controller, file, value: value.to_string(), optional: false, field: None }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn asked_for(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }
}

/// Which devices a container may use.
#[derive(Debug)]
pub(crate) struct Devices<'a> {
    /// All there are.
    pub(crate) all: bool,
    /// These besides the ones that every container has.
    pub(crate) found: &'a [crate::device::Found],
}

impl Devices<'_> {
    /// `None` is no limit.
    fn rules(&self) -> Option<Vec<devices::Rule>> {
        let found = self.found.iter().map(devices::Rule::of);
        (!self.all).then(|| devices::DEFAULT.iter().copied().chain(found).collect())
    }
}

/// What the plan needs to know about a container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) version: CgroupVersion,
    /// Files by which init joins (v1); see [`entrance`].
    pub(crate) join: Vec<PathBuf>,
    /// Directory to be cloned into (v2).
    pub(crate) directory: Option<PathBuf>,
    /// Files by which the supervisor joins; see [`entrance`].
    pub(crate) supervisor: Vec<PathBuf>,
    pub(crate) out_of_memory: Option<OutOfMemoryCounter>,
    /// Controllers of each hierarchy that the container sees (v1), as mount options.
    pub(crate) hierarchies: Vec<Vec<String>>,
}

/// The cgroups below one parent.
#[derive(Debug)]
pub(crate) struct Cgroups {
    host: Host,
    parent: PathBuf,
}

impl Cgroups {
    /// Makes the parent and the supervisors' cgroup.
    pub(crate) fn open(host: Host, parent: &str) -> Result<Self, RuntimeError> {
        let mut cgroups = Self { host, parent: PathBuf::from(parent.trim_matches('/')) };
        for hierarchy in &cgroups.host.hierarchies {
            if cgroups.host.version == CgroupVersion::V2 {
                cgroups.delegate(hierarchy)?;
            }
            let directory = cgroups.directory(hierarchy, SUPERVISORS);
            fs::create_dir_all(&directory).doing("creating the cgroup", &directory)?;
        }
        cgroups.host.tracking.retain(|mount| {
            let directory = mount.join(&cgroups.parent).join(SUPERVISORS);
            let made = fs::create_dir_all(&directory);
            if let Err(error) = &made {
                tracing::warn!(path = %directory.display(), %error, "supervisors stay with the daemon in this hierarchy");
            }
            made.is_ok()
        });
        Ok(cgroups)
    }

    /// Hands the controllers down to the parent, level by level. Processes are moved out of the way only where they are
    /// ours to move: in the daemon's own cgroup, and at the root of its cgroup namespace, where nobody else is.
    fn delegate(&self, hierarchy: &Hierarchy) -> Result<(), RuntimeError> {
        let own = v2::own().map(|own| hierarchy.mount.join(own)).ok();
        let mut problem = None;
        let mut enable = |directory: &Path| {
            let is_ours = *directory == hierarchy.mount || own.as_deref() == Some(directory);
            if let Err(error) = v2::enable_controllers(directory, is_ours) {
                problem.get_or_insert_with(|| format!("{}: {error}", directory.display()));
            }
        };
        let mut directory = hierarchy.mount.clone();
        for level in self.parent.components() {
            enable(&directory);
            directory.push(level);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.doing("creating the cgroup", &directory)?,
            }
        }
        enable(&directory);
        let missing = v2::missing_controllers(&directory);
        if missing.is_empty() {
            return Ok(());
        }
        Err(RuntimeError::Host(format!(
            "the cgroup controllers {} cannot be handed down to {} (first problem: {}); see that cgroup.controllers at \
             the root lists them, and that no cgroup on the way has processes of its own (for a parent inside a unit: \
             Delegate=yes)",
            missing.join(", "),
            directory.display(),
            problem.as_deref().unwrap_or("none"),
        )))
    }

    fn directory(&self, hierarchy: &Hierarchy, name: &str) -> PathBuf {
        hierarchy.mount.join(&self.parent).join(name)
    }

    /// Directory in which the files of a controller are.
    fn controller(&self, id: &ContainerId, controller: &str) -> Option<PathBuf> {
        let hierarchy = match self.host.version {
            CgroupVersion::V2 => self.host.hierarchies.first(),
            CgroupVersion::V1 => self
                .host
                .hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller)),
        };
        hierarchy.map(|hierarchy| self.directory(hierarchy, id.as_str()))
    }

    /// Makes the container's cgroup with its limits and its device rules.
    pub(crate) fn create(
        &self,
        id: &ContainerId,
        resources: &Resources,
        devices: &Devices<'_>,
    ) -> Result<Membership, RuntimeError> {
        for hierarchy in &self.host.hierarchies {
            let directory = self.directory(hierarchy, id.as_str());
            fs::create_dir(&directory).doing("creating the cgroup", &directory)?;
        }
        coracle_crash_point::crash_point!("cgroup.after-create");
        let writes = match self.host.version {
            CgroupVersion::V1 => {
                let rules = devices.rules().map(|rules| v1::device_writes(&rules)).unwrap_or_default();
                [v1::writes(resources), rules].concat()
            }
            CgroupVersion::V2 => {
                if let (Some(rules), Some(directory)) = (devices.rules(), self.controller(id, "devices")) {
                    attach_devices(&directory, &rules)?;
                }
                v2::writes(resources)
            }
        };
        for write in &writes {
            self.apply(id, write)?;
        }
        let mut membership = self.membership(id);
        if let (CgroupVersion::V1, Some(cpuset)) = (self.host.version, &resources.cpuset) {
            membership.join.push(entrance(&self.confine(id, cpuset)?));
        }
        Ok(membership)
    }

    /// Makes a cgroup of the v1 controller `cpuset`. One without processors and memory nodes takes no process, so each
    /// level is given its parent's first.
    fn confine(&self, id: &ContainerId, cpuset: &str) -> Result<PathBuf, RuntimeError> {
        let refused =
            |why: String| RuntimeError::InvalidSpec { field: "limits.cpuset", value: cpuset.to_owned(), why };
        let Some(mount) = &self.host.cpuset else {
            return Err(refused("this node has no cgroup controller cpuset".into()));
        };
        let mut directory = mount.clone();
        let levels: Vec<_> = self.parent.components().collect();
        let names = levels.iter().map(|level| Path::new(level.as_os_str())).chain([Path::new(id.as_str())]);
        for name in names {
            let parent = directory.clone();
            directory.push(name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.doing("creating the cgroup", &directory)?,
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (parent.join(file), directory.join(file));
                let value = fs::read_to_string(&from).doing("reading the cgroup file", &from)?;
                let has = fs::read_to_string(&to).doing("reading the cgroup file", &to)?;
                if has.trim().is_empty() {
                    write_existing(&to, value.trim()).doing("writing the cgroup limit", &to)?;
                }
            }
        }
        let file = directory.join("cpuset.cpus");
        let most = fs::read_to_string(&file).unwrap_or_default();
        write_existing(&file, cpuset)
            .map_err(|error| refused(format!("this node has the processors {}: {error}", most.trim())))?;
        Ok(directory)
    }

    fn apply(&self, id: &ContainerId, write: &Write) -> Result<(), RuntimeError> {
        let Some(directory) = self.controller(id, write.controller) else {
            return Err(RuntimeError::Host(format!(
                "the cgroup controller {} is not mounted",
                write.controller
            )));
        };
        let file = directory.join(write.file);
        match write_existing(&file, &write.value) {
            Err(error) if write.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if write.field.is_some() => Err(RuntimeError::InvalidSpec {
                field: write.field.unwrap_or_default(),
                value: write.value.clone(),
                why: format!(
                    "this node's kernel (cgroup v{}) does not take it: {}: {error}",
                    self.host.version, write.file
                ),
            }),
            result => result.doing("writing the cgroup limit", &file),
        }
    }

    fn membership(&self, id: &ContainerId) -> Membership {
        let procs = |name: &str| -> Vec<PathBuf> {
            let directories = self.host.hierarchies.iter().map(|hierarchy| self.directory(hierarchy, name));
            directories.map(|directory| entrance(&directory)).collect()
        };
        let version = self.host.version;
        let (file, v1) = match version {
            CgroupVersion::V1 => ("memory.oom_control", true),
            CgroupVersion::V2 => ("memory.events", false),
        };
        let memory = self.controller(id, "memory");
        Membership {
            version,
            join: if v1 { procs(id.as_str()) } else { Vec::new() },
            directory: if v1 { None } else { self.controller(id, "") },
            supervisor: procs(SUPERVISORS).into_iter().chain(self.tracking_procs()).collect(),
            out_of_memory: memory
                .map(|directory| OutOfMemoryCounter { file: directory.join(file), key: "oom_kill".into() }),
            hierarchies: if v1 {
                self.host.hierarchies.iter().map(|hierarchy| hierarchy.controllers.clone()).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn tracking_procs(&self) -> impl Iterator<Item = PathBuf> {
        let name = self.parent.join(SUPERVISORS);
        self.host.tracking.iter().map(move |mount| entrance(&mount.join(&name)))
    }

    /// Current use.
    pub(crate) fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError> {
        stats::read(self.host.version, |controller| self.controller(id, controller))
    }

    /// Kills every process in the container's cgroup and waits until none is left.
    pub(crate) fn kill(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let Some(directory) = self.controller(id, "pids") else { return Ok(()) };
        kill::all(&directory).doing("killing all in the cgroup", &directory)
    }

    /// Removes the container's cgroup in all hierarchies; one that is not there is fine.
    pub(crate) fn remove(&self, id: &ContainerId, errors: &mut Vec<RuntimeError>) {
        let deadline = Instant::now() + REMOVAL_PATIENCE;
        for hierarchy in &self.host.hierarchies {
            let directory = self.directory(hierarchy, id.as_str());
            if let Err(error) = remove_tree(&directory, deadline).doing("removing the cgroup", &directory) {
                errors.push(error);
            }
        }
        if let Some(mount) = &self.host.cpuset {
            let directory = mount.join(&self.parent).join(id.as_str());
            if let Err(error) = remove_tree(&directory, deadline).doing("removing the cgroup", &directory) {
                errors.push(error);
            }
        }
    }

    /// Removes the supervisors' cgroup and the parent, if nothing else is in them. For tests and uninstallation.
    pub(crate) fn remove_parent(&self) {
        let mounts = self.host.hierarchies.iter().map(|hierarchy| &hierarchy.mount);
        for mount in mounts.chain(&self.host.tracking).chain(&self.host.cpuset) {
            let mut directory = mount.join(&self.parent);
            let _ = fs::remove_dir(directory.join(SUPERVISORS));
            while directory != *mount && fs::remove_dir(&directory).is_ok() {
                directory.pop();
            }
        }
    }
}

/// The file by which a process with one thread joins a cgroup. On v1 that is `tasks`: a process that moves itself by
/// `cgroup.procs` makes the kernel wait for a grace period, ten milliseconds or more, because it might have more threads
/// (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c); v2 has nothing else.
fn entrance(directory: &Path) -> PathBuf {
    let tasks = directory.join("tasks");
    if tasks.exists() { tasks } else { directory.join("cgroup.procs") }
}

/// Loads the program for these rules and attaches it to a v2 cgroup.
fn attach_devices(directory: &Path, rules: &[devices::Rule]) -> Result<(), RuntimeError> {
    let program = crate::sys::load_device_program(&devices::program(rules))
        .doing("loading the device program for", directory)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty()).doing("opening the cgroup", directory)?;
    crate::sys::attach_device_program(cgroup.as_fd(), program.as_fd())
        .doing("attaching the device program to", directory)
}

/// Cgroup files are never created by us: a missing one is an error.
fn write_existing(file: &Path, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    fs::File::options().write(true).open(file)?.write_all(value.as_bytes())
}

/// Removes a cgroup and those below it.
fn remove_tree(directory: &Path, deadline: Instant) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
