//! A node: a host, and the daemon that runs on it.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::cgroup;
use crate::host::Host;
use crate::name::Name;
use crate::process::{self, Process};

/// How long a daemon may take to answer on its socket, or to end when it is asked to.
pub const DAEMON_DEADLINE: Duration = Duration::from_secs(30);

/// Where the files of one node are.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// The folders of a node under a lab's folder.
    #[must_use]
    pub fn new(lab: &Path, name: Name) -> Self {
        Self { root: lab.join(name.to_string()) }
    }

    /// What the daemon keeps.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The socket and what does not outlive the host.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The local socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("coracle.sock")
    }

    /// What the daemon wrote to its standard output and error, over all of its lives.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }
}

/// A node of a lab.
#[derive(Debug)]
pub struct Node {
    name: Name,
    folders: Folders,
    binary: PathBuf,
    cgroup_parent: String,
    host: Option<Host>,
    daemon: Option<Process>,
    environment: Vec<(String, String)>,
}

impl Node {
    /// A node on this host; its daemon does not run yet.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn new(
        name: Name,
        folders: Folders,
        binary: &Path,
        cgroup_parent: String,
        host: Host,
    ) -> Result<Self> {
        for folder in [folders.data(), folders.run()] {
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let (binary, host, environment) = (binary.to_owned(), Some(host), Vec::new());
        Ok(Self { name, folders, binary, cgroup_parent, host, daemon: None, environment })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// Where its files are.
    #[must_use]
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// The parent of its containers' cgroups.
    #[must_use]
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// The host.
    ///
    /// # Errors
    /// When its power is off.
    pub fn host(&self) -> Result<&Host> {
        self.host.as_ref().with_context(|| format!("host {} is switched off", self.name))
    }

    /// The daemon, while it runs.
    #[must_use]
    pub fn daemon(&self) -> Option<Process> {
        self.daemon.filter(|process| process.is_alive())
    }

    /// Notes the daemon that an earlier program started.
    pub fn adopt_daemon(&mut self, daemon: Option<Process>) {
        self.daemon = daemon;
    }

    /// What the daemon has in its environment from its next start on, beside what all have.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Starts the daemon; its socket answers a little later.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start_daemon(&mut self) -> Result<()> {
        if self.daemon().is_some() {
            bail!("the daemon of {} runs already", self.name);
        }
        let log = self.folders.log();
        let mut file = fs::File::options().create(true).append(true).open(&log)?;
        writeln!(file, "--- lab: daemon starts")?;
        // Started from the host's first process so that it belongs to nobody outside, as under an init system.
        let script = "log=$1; shift; \"$@\" >>\"$log\" 2>&1 </dev/null & echo $!";
        let mut command = self.host()?.command("setsid");
        command.args(["sh", "-c", script, "start"]).arg(&log).arg(&self.binary).arg("daemon");
        command.arg("--data-dir").arg(self.folders.data()).arg("--run-dir").arg(self.folders.run());
        command.args(["--log-level", &log_level(), "--cgroup-parent", &self.cgroup_parent]);
        command.env("RUST_BACKTRACE", "1").envs(self.environment.iter().cloned());
        let inner: i32 =
            process::output(&mut command)?.trim().parse().context("process number of the daemon")?;
        let init = self.host()?.init().pid;
        let found = process::wait(Duration::from_secs(2), || process::by_inner_number(init).remove(&inner));
        self.daemon = found;
        if found.is_none() {
            bail!("the daemon of {} ended at once:\n{}", self.name, self.log_tail(30));
        }
        Ok(())
    }

    /// Kills the daemon (SIGKILL) and nothing else.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.end_daemon(Signal::KILL)
    }

    /// Asks the daemon to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not within [`DAEMON_DEADLINE`].
    pub fn stop_daemon(&mut self) -> Result<()> {
        self.end_daemon(Signal::TERM)
    }

    fn end_daemon(&mut self, signal: Signal) -> Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(signal)?;
            daemon.wait_gone(DAEMON_DEADLINE).with_context(|| format!("daemon of {}", self.name))?;
        }
        Ok(())
    }

    /// Stops the daemon's clock, so to speak: it keeps its connections and says nothing.
    ///
    /// # Errors
    /// When there is none.
    pub fn pause_daemon(&self) -> Result<()> {
        self.daemon().with_context(|| format!("no daemon on {}", self.name))?.signal(Signal::STOP)
    }

    /// Lets a paused daemon go on.
    ///
    /// # Errors
    /// When there is none.
    pub fn resume_daemon(&self) -> Result<()> {
        self.daemon().with_context(|| format!("no daemon on {}", self.name))?.signal(Signal::CONT)
    }

    /// Power loss: daemon, supervisors and containers are killed at once, and the run folder is empty after.
    ///
    /// # Errors
    /// When something survives.
    pub fn power_off(&mut self) -> Result<()> {
        self.daemon = None;
        if let Some(mut host) = self.host.take() {
            host.power_off()?;
        }
        cgroup::remove(&self.cgroup_parent)?;
        let run = self.folders.run();
        fs::remove_dir_all(&run).with_context(|| format!("empty {}", run.display()))?;
        fs::create_dir_all(&run).with_context(|| format!("make {}", run.display()))
    }

    /// Gives a node that was switched off a new host; the daemon is started separately.
    pub fn power_on(&mut self, host: Host) {
        self.host = Some(host);
    }

    /// Kills a process of this node by the number that it has there: the one that tasks report.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill_process(&self, inner: u32) -> Result<()> {
        self.host()?.run(["sh", "-c", &format!("kill -9 {inner}")])?;
        Ok(())
    }

    /// The process with the number that a task reports.
    ///
    /// # Errors
    /// When the host is off.
    pub fn process(&self, inner: u32) -> Result<Option<Process>> {
        let wanted = i32::try_from(inner).context("process number out of range")?;
        Ok(process::by_inner_number(self.host()?.init().pid).remove(&wanted))
    }

    /// Everything that runs on the host beside its first process and the daemon: supervisors and containers.
    ///
    /// # Errors
    /// When the host is off.
    pub fn other_processes(&self) -> Result<Vec<Process>> {
        let init = self.host()?.init().pid;
        let own = |pid: &i32| *pid != init && self.daemon.is_none_or(|daemon| daemon.pid != *pid);
        let all = process::descendants(init).into_iter().filter(own).filter_map(Process::of);
        Ok(all.filter(|process| command_name(process.pid) != "sleep").collect())
    }

    /// The last lines of the daemon's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = tail(&self.folders.log(), 64 * 1024).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folders.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Leaves everything running when this value is dropped.
    pub fn detach(&mut self) {
        if let Some(host) = &mut self.host {
            host.detach();
        }
    }
}

/// What daemons log; `CORACLE_LAB_LOG` asks for more when a failure is looked into.
fn log_level() -> String {
    std::env::var("CORACLE_LAB_LOG").unwrap_or_else(|_| "info".to_owned())
}

fn command_name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn tail(path: &Path, bytes: u64) -> Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
