//! One pretended machine: namespaces for network, processes, mounts and host name, held by one process.
//!
//! The holder is the first process of its process namespace: when it is killed the kernel kills all others in
//! it, containers included, and with the last of them the network and the mounts are gone.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::process::{self, Process};

/// What the first process of a host does: reap orphans, as any init must, and nothing else.
const INIT: &str = "hostname \"$1\" && ip link set lo up && while :; do sleep 3600 & wait $!; done";
/// How long namespaces may take to come up on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A pretended machine that is switched on.
#[derive(Debug)]
pub struct Host {
    name: String,
    holder: Option<Child>,
    init: Process,
}

impl Host {
    /// Makes the namespaces. With `bound` they end with the calling thread, also when it is killed.
    ///
    /// # Errors
    /// When `unshare` is missing or the kernel refuses.
    pub fn start(name: &str, bound: bool) -> Result<Self> {
        let mut command = if bound { Command::new("setpriv") } else { Command::new("unshare") };
        if bound {
            command.args(["--pdeathsig", "KILL", "unshare"]);
        }
        command
            .args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", INIT, "init", name]);
        // A group of its own: an interrupt from the keyboard is for the lab, which then ends things in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut holder = command.spawn().with_context(|| format!("start {command:?}"))?;
        let pid = i32::try_from(holder.id()).context("process number out of range")?;
        let Some(init) = process::wait(START_DEADLINE, || started_init(pid)) else {
            // Best effort: the error below is what matters.
            let _ = holder.kill();
            let said = holder.wait_with_output().map(|output| output.stderr).unwrap_or_default();
            anyhow::bail!(
                "host {name}: its first process did not come up: {}",
                String::from_utf8_lossy(&said).trim()
            );
        };
        Ok(Self { name: name.to_owned(), holder: Some(holder), init })
    }

    /// Takes charge again of a host that an earlier program left running.
    #[must_use]
    pub fn adopt(name: &str, init: Process) -> Self {
        Self { name: name.to_owned(), holder: None, init }
    }

    /// The first process of the host.
    #[must_use]
    pub fn init(&self) -> Process {
        self.init
    }

    /// A command that will run on this host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.init.pid.to_string())
            .args(["--net", "--mount", "--uts", "--pid", "--"]);
        command.arg(program);
        command
    }

    /// Runs a command on this host and gives its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn run<const N: usize>(&self, line: [&str; N]) -> Result<String> {
        let (program, rest) = line.split_first().context("empty command")?;
        process::output(self.command(program).args(rest)).with_context(|| format!("on host {}", self.name))
    }

    /// Runs `work` on a thread whose sockets belong to this host's network.
    ///
    /// # Errors
    /// When the network cannot be entered, or what `work` says.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/proc/{}/ns/net", self.init.pid);
        let network = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(kind))
                    .context("enter the network namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("the thread in the host's network panicked"))?
        })
    }

    /// Power loss: everything on the host is killed at once. The host is gone afterwards.
    ///
    /// # Errors
    /// When processes survive.
    pub fn power_off(&mut self) -> Result<()> {
        self.init.signal(Signal::KILL)?;
        if let Some(mut holder) = self.holder.take() {
            holder.wait().with_context(|| format!("wait for the holder of host {}", self.name))?;
        }
        self.init.wait_gone(START_DEADLINE)
    }

    /// Leaves the host running when this value is dropped.
    pub fn detach(&mut self) {
        self.holder = None;
    }
}

/// The child of `unshare`, once it has become the shell and given the host its name.
fn started_init(holder: i32) -> Option<Process> {
    let child = *process::children(holder).first()?;
    // Its loop has begun when it waits for a `sleep` of its own.
    (!process::children(child).is_empty()).then(|| Process::of(child))?.filter(|_| sleeps(child))
}

fn sleeps(init: i32) -> bool {
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    process::children(init).into_iter().any(|pid| name(pid).trim() == "sleep")
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.holder.is_some() {
            // Best effort on the way out: there is nobody to tell.
            let _ = self.power_off();
        }
    }
}
