//! What a cluster must be able to do to be measured: ours and a peer's are driven by the same code.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::interrupt;
use super::report::Report;
use super::tree::Tree;
use crate::host::Host;
use crate::name::Name;
use crate::process::Process;

/// Time within which anything that is measured must have happened.
const DEADLINE: Duration = Duration::from_secs(180);
/// Pause between two looks, for all systems the same.
const PAUSE: Duration = Duration::from_millis(10);
/// The program in the image's containers.
const PROGRAM: &str = "responder";

/// The service that is measured: one at a time.
pub(super) const SERVICE: &str = "app";

/// A service to create, always of the responder's image and with the name [`SERVICE`].
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Tasks wanted.
    pub(super) replicas: usize,
    /// Arguments of the container.
    pub(super) arguments: &'static [&'static str],
    /// What happens when a task ends.
    pub(super) restart: Restart,
    /// The only host that may run it.
    pub(super) place: Option<Name>,
    /// Whether containers use the host's network instead of the system's default.
    pub(super) host_network: bool,
    /// How it is updated.
    pub(super) rollout: Rollout,
}

/// What happens when a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// The system's default.
    Default,
    /// It is replaced without delay.
    AtOnce,
    /// Nothing: it was to run once.
    Never,
}

/// How a service is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rollout {
    /// Tasks replaced at the same time.
    pub(super) parallelism: u32,
    /// Whether the new task runs before the old one is stopped.
    pub(super) start_first: bool,
}

impl Rollout {
    /// One at a time, the old one stopped first: the default of every system.
    pub(super) const DEFAULT: Self = Self { parallelism: 1, start_first: false };
}

impl Service {
    /// Tasks that run until they are stopped, all else as the system has it by default.
    pub(super) fn sleeping(replicas: usize) -> Self {
        Self {
            replicas,
            arguments: &["sleep"],
            restart: Restart::Default,
            place: None,
            host_network: false,
            rollout: Rollout::DEFAULT,
        }
    }
}

/// A task that runs and should.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// Its identifier.
    pub(super) id: String,
    /// Where it runs.
    pub(super) host: Name,
    /// The number of its process on that host.
    pub(super) pid: u32,
}

/// A cluster of hosts in namespaces.
pub(super) trait Subject {
    /// The hosts, managers first.
    fn names(&self) -> Vec<Name>;
    /// A host.
    fn host(&self, name: Name) -> Result<&Host>;
    /// The processes of the system itself on a host.
    fn daemons(&self, name: Name) -> Result<Vec<Process>>;
    /// The files that are to be installed for it.
    fn installed(&self) -> Vec<PathBuf>;

    /// Makes the service; does not wait for its tasks.
    fn create(&self, service: &Service) -> Result<()>;
    /// Whether services can be updated like this.
    fn can_update(&self, rollout: Rollout) -> bool;
    /// Begins to replace all tasks by new ones.
    fn update(&self) -> Result<()>;
    /// Begins to move all tasks off a host, or lets it have tasks again.
    fn set_drained(&self, name: Name, drained: bool) -> Result<()>;
    /// Begins to end all tasks.
    fn to_zero(&self) -> Result<()>;
    /// Removes the service; does not wait for the end of its tasks.
    fn remove(&self) -> Result<()>;
    /// How many tasks run and should.
    fn running(&self) -> Result<usize>;
    /// The tasks that run and should.
    fn tasks(&self) -> Result<Vec<Running>>;
    /// How many tasks have ended with success.
    fn completed(&self) -> Result<usize>;
    /// Whether nothing is left of any task, on no host.
    fn is_clear(&self) -> Result<bool>;

    /// The manager that leads.
    fn leader(&self) -> Result<Name>;
    /// Whether all nodes are ready and all managers take part.
    fn is_whole(&self) -> Result<bool>;
    /// Tries to write through the other managers until one write is acknowledged.
    fn next_write(&self, lost: Name) -> Result<()>;
    /// Kills the system's own processes on a host; containers stay.
    fn kill_daemon(&mut self, name: Name) -> Result<()>;
    /// Starts them again.
    fn start_daemon(&mut self, name: Name) -> Result<()>;
    /// Cuts a host from all others.
    fn isolate(&mut self, name: Name) -> Result<()>;
    /// Takes that back.
    fn heal(&mut self, name: Name) -> Result<()>;
    /// Kills everything on a host.
    fn power_off(&mut self, name: Name) -> Result<()>;
    /// Starts the host and the system on it again.
    fn power_on(&mut self, name: Name) -> Result<()>;

    /// Measures writes with many clients.
    fn load(&mut self, repetitions: u32, report: &mut Report) -> Result<()>;
}

/// Looks again and again until it is so.
///
/// # Errors
/// When it is not within [`DEADLINE`], or the program is asked to end.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    loop {
        interrupt::check()?;
        let seen = is_so();
        match seen {
            Ok(true) => return Ok(()),
            // A cluster that is being disturbed may fail to answer.
            _ if Instant::now() < end => std::thread::sleep(PAUSE),
            Ok(false) => bail!("not within {DEADLINE:?}: {what}"),
            Err(error) => return Err(error.context(format!("not within {DEADLINE:?}: {what}"))),
        }
    }
}

/// Makes a service and waits until exactly its tasks run.
pub(super) fn create_and_wait(subject: &dyn Subject, service: &Service) -> Result<()> {
    subject.create(service)?;
    until("all tasks run", || Ok(subject.running()? == service.replicas))
}

/// Removes the service and waits until nothing is left of it: what is measured next must not share the machine
/// with what still ends.
pub(super) fn remove_and_wait(subject: &dyn Subject) -> Result<()> {
    subject.remove()?;
    until("no process of a container is left", || Ok(containers(subject)? == 0))?;
    until("no task is left", || subject.is_clear())
}

/// Waits until all nodes are ready.
pub(super) fn wait_whole(subject: &dyn Subject) -> Result<()> {
    until("all nodes are ready, all managers take part", || subject.is_whole())
}

/// What runs on a host because of containers: their processes, and processes of the system beside them.
pub(super) fn beside_daemons(subject: &dyn Subject, tree: &Tree, name: Name) -> Result<(Vec<i32>, Vec<i32>)> {
    let daemons = subject.daemons(name)?;
    let (mut programs, mut others) = (Vec::new(), Vec::new());
    for seen in tree.below(subject.host(name)?.init().pid) {
        // The host's first process waits for a `sleep` of its own.
        let of_host = seen.name == "sleep" || daemons.iter().any(|daemon| daemon.pid == seen.pid);
        if seen.is_alive() && !of_host {
            if seen.name == PROGRAM { &mut programs } else { &mut others }.push(seen.pid);
        }
    }
    Ok((programs, others))
}

/// Processes of containers and of the system beside them, on all hosts.
pub(super) fn containers(subject: &dyn Subject) -> Result<usize> {
    let tree = Tree::look();
    let mut count = 0;
    for name in subject.names() {
        let (programs, others) = beside_daemons(subject, &tree, name)?;
        count += programs.len() + others.len();
    }
    Ok(count)
}

/// Processor time that all processes of all hosts have used, in seconds, those that ended included.
pub(super) fn processor_seconds(subject: &dyn Subject) -> Result<f64> {
    let tree = Tree::look();
    let mut seconds = 0.0;
    for name in subject.names() {
        seconds += tree.seconds(subject.host(name)?.init().pid);
    }
    Ok(seconds)
}

/// The size of all that is installed, in megabytes.
pub(super) fn installed_size(subject: &dyn Subject) -> Result<f64> {
    let mut bytes = 0;
    for path in subject.installed() {
        bytes += std::fs::metadata(&path).with_context(|| format!("size of {}", path.display()))?.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(bytes as f64 / 1e6)
}
