//! Hosts like the lab's, each with one daemon of a peer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::cgroup;
use crate::host::Host;
use crate::name::Name;
use crate::network::Segment;
use crate::process::{self, Process};

/// How long a daemon may take to come up or to end.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// Variables that could lead a peer's own connections through a proxy.
const PROXIES: [&str; 7] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Hosts on one segment. All of it ends with this value: processes, namespaces, cgroups, files.
#[derive(Debug)]
pub(super) struct Machines {
    folder: PathBuf,
    run: String,
    // Before the segment: cables go with the hosts.
    hosts: BTreeMap<Name, Machine>,
    segment: Segment,
    ended: bool,
}

#[derive(Debug)]
struct Machine {
    host: Option<Host>,
    daemon: Option<Process>,
}

impl Machines {
    /// Hosts with these names, with an empty folder for each.
    ///
    /// # Errors
    /// When the machine does not allow it.
    pub(super) fn start(folder: &Path, names: impl Iterator<Item = Name>) -> Result<Self> {
        cgroup::sweep();
        remove_folder(folder)?;
        let run = format!("{}-peer", std::process::id());
        let segment = Segment::start(true)?;
        let mut machines =
            Self { folder: folder.to_owned(), run, hosts: BTreeMap::new(), segment, ended: false };
        for name in names {
            fs::create_dir_all(machines.folder(name))?;
            machines.hosts.insert(name, Machine { host: None, daemon: None });
            machines.power_on(name)?;
        }
        Ok(machines)
    }

    /// The names of all hosts, managers first.
    pub(super) fn names(&self) -> Vec<Name> {
        self.hosts.keys().copied().collect()
    }

    /// A host.
    ///
    /// # Errors
    /// When its power is off.
    pub(super) fn host(&self, name: Name) -> Result<&Host> {
        let machine = self.hosts.get(&name).with_context(|| format!("there is no host {name}"))?;
        machine.host.as_ref().with_context(|| format!("host {name} is switched off"))
    }

    /// Where a host keeps its files.
    pub(super) fn folder(&self, name: Name) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// The parent of the cgroups of a host.
    pub(super) fn cgroup_parent(&self, name: Name) -> String {
        cgroup::parent(&self.run, name)
    }

    /// The daemon of a host, while it runs.
    pub(super) fn daemon(&self, name: Name) -> Option<Process> {
        self.hosts.get(&name)?.daemon.filter(|daemon| daemon.is_alive())
    }

    /// Starts a daemon on a host: `script` must end with `exec` of it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn spawn(&mut self, name: Name, script: &str, arguments: &[String]) -> Result<()> {
        let log = self.folder(name).join("log");
        // Started from the host's first process so that it belongs to nobody outside, as under an init system.
        let outer = "log=$1; script=$2; shift 2; sh -c \"$script\" daemon \"$@\" >>\"$log\" 2>&1 </dev/null & echo $!";
        let mut command = self.host(name)?.command("setsid");
        command.args(["sh", "-c", outer, "start"]).arg(&log).arg(script).args(arguments);
        remove_proxies(&mut command);
        let inner: i32 =
            process::output(&mut command)?.trim().parse().context("process number of a daemon")?;
        let init = self.host(name)?.init().pid;
        let found = process::wait(DEADLINE, || process::by_inner_number(init).remove(&inner));
        let machine = self.hosts.get_mut(&name).with_context(|| format!("there is no host {name}"))?;
        machine.daemon = found;
        match found {
            Some(_) => Ok(()),
            None => bail!("the daemon of {name} ended at once:\n{}", self.log_tail(name)),
        }
    }

    /// Kills the daemon of a host and nothing else.
    ///
    /// # Errors
    /// When it survives.
    pub(super) fn kill(&mut self, name: Name) -> Result<()> {
        let machine = self.hosts.get_mut(&name).with_context(|| format!("there is no host {name}"))?;
        if let Some(daemon) = machine.daemon.take() {
            daemon.signal(Signal::KILL)?;
            daemon.wait_gone(DEADLINE)?;
        }
        Ok(())
    }

    /// Pulls the cable of a host, or puts it back.
    ///
    /// # Errors
    /// When `ip` fails.
    pub(super) fn set_link(&self, name: Name, up: bool) -> Result<()> {
        self.segment.set_link(name, up)
    }

    /// Kills everything on a host; its files stay.
    ///
    /// # Errors
    /// When something survives.
    pub(super) fn power_off(&mut self, name: Name) -> Result<()> {
        let parent = self.cgroup_parent(name);
        let machine = self.hosts.get_mut(&name).with_context(|| format!("there is no host {name}"))?;
        machine.daemon = None;
        if let Some(mut host) = machine.host.take() {
            host.power_off()?;
        }
        cgroup::remove(&parent)
    }

    /// Gives a host its namespaces and its cable; no daemon runs yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn power_on(&mut self, name: Name) -> Result<()> {
        let host = Host::start(&name.to_string(), true)?;
        // The old cable's far end goes with its host, but a little later.
        let (port, switch) = (name.to_string(), self.segment.switch());
        process::wait(DEADLINE, || switch.run(["ip", "link", "show", &port]).is_err().then_some(()))
            .with_context(|| format!("the old cable of {name} is still plugged"))?;
        self.segment.plug(name, &host)?;
        let machine = self.hosts.get_mut(&name).with_context(|| format!("there is no host {name}"))?;
        machine.host = Some(host);
        Ok(())
    }

    /// The last lines of what a daemon said.
    pub(super) fn log_tail(&self, name: Name) -> String {
        let bytes = fs::read(self.folder(name).join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Ends everything. Files stay only when `keep` says so.
    ///
    /// # Errors
    /// When something remains.
    pub(super) fn end(mut self, keep: bool) -> Result<()> {
        let result = self.take_down();
        if keep { result } else { result.and_then(|()| remove_folder(&self.folder)) }
    }

    fn take_down(&mut self) -> Result<()> {
        self.ended = true;
        // All hosts first: tries everything and tells the first failure.
        let results: Vec<Result<()>> = self.names().into_iter().map(|name| self.power_off(name)).collect();
        let switch = self.segment.switch_mut().power_off();
        results.into_iter().chain([switch]).collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if !self.ended {
            // Best effort on the way out; the next run sweeps what is left.
            let _ = self.take_down();
        }
    }
}

/// Takes settings of proxies from what a command inherits.
fn remove_proxies(command: &mut Command) {
    for variable in PROXIES {
        command.env_remove(variable);
    }
}

/// Removes a folder that a killed daemon has just left.
fn remove_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{M1, W1};

    #[test]
    #[expect(clippy::print_stdout, reason = "the test driver shows it")]
    fn hosts_come_and_go_and_nothing_is_left() {
        if let Some(reason) = crate::harness::missing() {
            println!("SKIPPED: {reason}");
            return;
        }
        let folder = some_folder();
        let mut machines = Machines::start(&folder, [M1, W1].into_iter()).unwrap();
        machines.spawn(M1, "echo \"$1\"; exec sleep 600", &["said".to_owned()]).unwrap();
        let daemon = machines.daemon(M1).unwrap();
        assert!(process::wait(DEADLINE, || machines.log_tail(M1).contains("said").then_some(())).is_some());
        machines.kill(M1).unwrap();
        assert!(!daemon.is_alive() && machines.daemon(M1).is_none());
        machines.power_off(M1).unwrap();
        assert!(machines.host(M1).is_err());
        machines.power_on(M1).unwrap();
        let address = format!("{}/24", M1.address());
        assert!(machines.host(M1).unwrap().run(["ip", "address"]).unwrap().contains(&address));
        let first = machines.host(W1).unwrap().init();
        machines.end(false).unwrap();
        assert!(!first.is_alive() && !folder.exists());
    }

    fn some_folder() -> PathBuf {
        std::env::temp_dir().join(format!("coracle-machines-{}", std::process::id()))
    }
}
