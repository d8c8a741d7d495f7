//! Docker Engine in swarm mode, as something to be measured.
//!
//! In its favour: images are on every host and no registry is asked, commands go to the leader's own engine without a
//! command line in between, and containers are ended by SIGKILL.
#![expect(clippy::print_stdout, reason = "says what goes on")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::engine::{Engine, quoted};
use super::machines::Machines;
use super::swarm_load;
use super::swarm_request::specification;
use crate::bench::load;
use crate::bench::report::Report;
use crate::bench::subject::{Rollout, Running, SERVICE, Service, Subject, until, wait_whole};
use crate::bench::system::System;
use crate::bench::tree::Tree;
use crate::bench::{Options, group};
use crate::host::Host;
use crate::name::{M1, Name};
use crate::process::{Process, Stat};
use crate::{api, harness, image};

/// Makes a host ready for an engine: places of its own for what engines keep at fixed paths, the devices of its own
/// network under `/sys`, and the control groups there again.
const PREPARE: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -p /etc/docker /run/cgroup
mount -t tmpfs tmpfs /etc/docker
case \"$1\" in /opt/*) ;; *) test ! -d /opt || mount -t tmpfs tmpfs /opt ;; esac
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount --lazy /run/cgroup";
/// Starts an engine; what a killed one left is in its way.
const START: &str = "rm -f /run/docker.pid /run/docker/containerd/containerd.pid \"$1\"; shift
DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1 exec dockerd \"$@\"";
/// Files that are to be installed for an engine and its command line.
const INSTALLED: [&str; 5] = ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker"];

/// A swarm of engines.
#[derive(Debug)]
struct Swarm {
    machines: Machines,
    runtime: Arc<Runtime>,
    engines: BTreeMap<Name, Engine>,
    nodes: BTreeMap<String, Name>,
    /// The manager that is asked first: the leader, when all was well.
    front: Cell<Name>,
}

/// Measures the groups that are wanted.
///
/// # Errors
/// When the swarm does not do what is measured.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    report.of(System::Swarm);
    for (managers, workers) in [(3, 2), (1, 0)] {
        let groups = options.groups(managers + workers);
        if groups.is_empty() {
            continue;
        }
        for program in ["dockerd", "containerd"] {
            report.machine().version(program, std::process::Command::new(program).arg("--version"));
        }
        println!("Swarm: forming a cluster of {managers} managers and {workers} workers");
        let mut swarm = Swarm::start(&harness::target().join("peer"), managers, workers)?;
        let formed = swarm.form();
        let result = formed.and_then(|()| group::measure_all(&groups, &mut swarm, options, report));
        let ended = swarm.machines.end(result.is_err());
        result.and(ended)?;
    }
    report.note(
        "Swarm: asked through its API at the leader's own engine, ours through the command line; its writes are configs \
         of 256 bytes made and removed, ours services without tasks; its containers have a bridge by default, ours \
         only a loopback, so the figure with the host's network compares like with like",
    );
    report.note(
        "Swarm: after a fault of the leader a write is begun every 0.2 s at both other managers without waiting for \
         the earlier ones",
    );
    Ok(())
}

impl Swarm {
    /// Engines on new hosts, without a swarm yet.
    fn start(folder: &Path, managers: u8, workers: u8) -> Result<Self> {
        let machines = Machines::start(folder, Name::all(managers, workers))?;
        let runtime = api::runtime()?;
        let socket = |name: Name| machines.folder(name).join("engine.sock");
        let engines =
            machines.names().into_iter().map(|name| (name, Engine::new(&runtime, &socket(name)))).collect();
        Ok(Self { machines, runtime, engines, nodes: BTreeMap::new(), front: Cell::new(M1) })
    }

    /// Starts all engines and makes them a swarm, with the image on every host.
    fn form(&mut self) -> Result<()> {
        let names = self.machines.names();
        for name in &names {
            self.prepare(*name)?;
            self.spawn(*name)?;
        }
        let archive = image::saved_archive(&image::responder_binary()?, image::RESPONDER)?;
        for name in &names {
            self.wait_answers(*name)?;
            self.engine(*name)?.load(archive.clone()).with_context(|| format!("load the image on {name}"))?;
        }
        self.join_all(&names)?;
        for name in names {
            let info = self.engine(name)?.get("/info")?;
            self.nodes.insert(text(&info["Swarm"]["NodeID"])?.to_owned(), name);
        }
        wait_whole(self)
    }

    fn join_all(&self, names: &[Name]) -> Result<()> {
        let first = self.engine(M1)?;
        let listen = |name: Name| format!("{}:2377", name.address());
        let body = json!({ "ListenAddr": listen(M1), "AdvertiseAddr": M1.address() });
        first.post_patiently("/swarm/init", &body).context("make the swarm")?;
        let tokens = first.get("/swarm")?["JoinTokens"].clone();
        for name in names.iter().filter(|name| **name != M1) {
            let body = json!({
                "ListenAddr": listen(*name),
                "AdvertiseAddr": name.address(),
                "RemoteAddrs": [listen(M1)],
                "JoinToken": tokens[if name.is_manager() { "Manager" } else { "Worker" }],
            });
            self.engine(*name)?
                .post_patiently("/swarm/join", &body)
                .with_context(|| format!("join {name}"))?;
        }
        Ok(())
    }

    fn engine(&self, name: Name) -> Result<&Engine> {
        self.engines.get(&name).with_context(|| format!("there is no engine on {name}"))
    }

    fn prepare(&self, name: Name) -> Result<()> {
        let folder = self.machines.folder(name).display().to_string();
        self.machines.host(name)?.run(["sh", "-c", PREPARE, "prepare", &folder]).map(drop)
    }

    fn spawn(&mut self, name: Name) -> Result<()> {
        let socket = self.engine(name)?.socket().display().to_string();
        let data = self.machines.folder(name).join("data").display().to_string();
        let (host, parent) = (format!("unix://{socket}"), format!("/{}", self.machines.cgroup_parent(name)));
        let flags = ["--data-root", &data, "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"];
        let more = ["--host", &host, "--cgroup-parent", &parent];
        let arguments: Vec<String> =
            [socket.as_str()].into_iter().chain(flags).chain(more).map(str::to_owned).collect();
        self.machines.spawn(name, START, &arguments)
    }

    fn wait_answers(&self, name: Name) -> Result<()> {
        let engine = self.engine(name)?;
        let answers = until("the engine answers", || {
            if self.machines.daemon(name).is_none() {
                return Ok(true);
            }
            engine.get("/info").map(|_| true)
        });
        if answers.is_err() || self.machines.daemon(name).is_none() {
            bail!("the engine of {name} does not answer:\n{}", self.machines.log_tail(name));
        }
        Ok(())
    }

    fn managers(&self) -> impl Iterator<Item = Name> {
        self.machines.names().into_iter().filter(|name| name.is_manager())
    }

    /// What a manager answers: the one in front, or another when that one does not.
    fn ask<T>(&self, ask: impl Fn(&Engine) -> Result<T>) -> Result<T> {
        let front = self.front.get();
        let mut last = None;
        for name in [front].into_iter().chain(self.managers().filter(|name| *name != front)) {
            if self.machines.daemon(name).is_some() {
                match ask(self.engine(name)?) {
                    Ok(answer) => {
                        self.front.set(name);
                        return Ok(answer);
                    }
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(last.context("no manager runs")?)
    }

    /// Reads the service, changes its specification and writes it back.
    fn change(&self, change: impl Fn(&mut Value)) -> Result<()> {
        self.ask(|engine| {
            let mut service = engine.get(&format!("/services/{SERVICE}"))?;
            change(&mut service["Spec"]);
            let version = &service["Version"]["Index"];
            engine.post(&format!("/services/{SERVICE}/update?version={version}"), &service["Spec"]).map(drop)
        })
    }

    /// The service's tasks that the filters let through.
    fn listed(&self, more: &Value) -> Result<Vec<Value>> {
        let mut filters = json!({ "service": [SERVICE] });
        if let (Value::Object(filters), Value::Object(more)) = (&mut filters, more) {
            filters.extend(more.clone());
        }
        let path = format!("/tasks?filters={}", quoted(&filters.to_string()));
        match self.ask(|engine| engine.get(&path))? {
            Value::Array(tasks) => Ok(tasks),
            other => bail!("tasks are no list: {other}"),
        }
    }

    fn task(&self, task: &Value) -> Result<Running> {
        let host = self.nodes.get(text(&task["NodeID"])?).context("a task on an unknown node")?;
        let pid =
            task["Status"]["ContainerStatus"]["PID"].as_u64().context("a running task without a process")?;
        Ok(Running { id: text(&task["ID"])?.to_owned(), host: *host, pid: u32::try_from(pid)? })
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

fn is_in(task: &Value, state: &str) -> bool {
    task["Status"]["State"] == state
}

/// How many of a manager's nodes are ready, how many managers are reachable, and who leads.
fn count_nodes(nodes: &Value) -> (usize, usize, Option<&str>) {
    let nodes: Vec<&Value> = nodes.as_array().into_iter().flatten().collect();
    let ready = nodes.iter().filter(|node| is_in(node, "ready")).count();
    let reachable = nodes.iter().filter(|node| node["ManagerStatus"]["Reachability"] == "reachable").count();
    let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true);
    (ready, reachable, leader.and_then(|node| node["ID"].as_str()))
}

impl Subject for Swarm {
    fn names(&self) -> Vec<Name> {
        self.machines.names()
    }

    fn host(&self, name: Name) -> Result<&Host> {
        self.machines.host(name)
    }

    fn daemons(&self, name: Name) -> Result<Vec<Process>> {
        let Some(engine) = self.machines.daemon(name) else { return Ok(Vec::new()) };
        let tree = Tree::look();
        let below = tree.below(engine.pid);
        let containerd = below.iter().filter(|seen| {
            seen.name == "containerd" && Stat::of(seen.pid).is_some_and(|stat| stat.parent == engine.pid)
        });
        Ok(std::iter::once(engine).chain(containerd.filter_map(|seen| Process::of(seen.pid))).collect())
    }

    fn installed(&self) -> Vec<PathBuf> {
        // Those of the system's packages, before anything else of the same name.
        let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(Path::new);
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        INSTALLED.into_iter().filter_map(find).collect()
    }

    fn create(&self, service: &Service) -> Result<()> {
        let body = specification(service);
        self.ask(|engine| engine.post("/services/create", &body)).map(drop)
    }

    fn can_update(&self, _rollout: Rollout) -> bool {
        true
    }

    fn update(&self) -> Result<()> {
        self.change(|specification| {
            let count = &mut specification["TaskTemplate"]["ForceUpdate"];
            *count = json!(count.as_u64().unwrap_or(0) + 1);
        })
    }

    fn set_drained(&self, name: Name, drained: bool) -> Result<()> {
        let id = self.nodes.iter().find(|(_, known)| **known == name).map(|(id, _)| id);
        let id = id.with_context(|| format!("{name} is no node"))?;
        self.ask(|engine| {
            let mut node = engine.get(&format!("/nodes/{id}"))?;
            node["Spec"]["Availability"] = json!(if drained { "drain" } else { "active" });
            let version = &node["Version"]["Index"];
            engine.post(&format!("/nodes/{id}/update?version={version}"), &node["Spec"]).map(drop)
        })
    }

    fn to_zero(&self) -> Result<()> {
        self.change(|specification| specification["Mode"]["Replicated"]["Replicas"] = json!(0))
    }

    fn remove(&self) -> Result<()> {
        self.ask(|engine| engine.delete(&format!("/services/{SERVICE}"))).map(drop)
    }

    fn running(&self) -> Result<usize> {
        let filters = quoted(&json!({ "name": [SERVICE] }).to_string());
        let services = self.ask(|engine| engine.get(&format!("/services?status=true&filters={filters}")))?;
        let count = services[0]["ServiceStatus"]["RunningTasks"].as_u64().unwrap_or(0);
        Ok(usize::try_from(count)?)
    }

    fn tasks(&self) -> Result<Vec<Running>> {
        let tasks = self.listed(&json!({ "desired-state": ["running"] }))?;
        tasks.iter().filter(|task| is_in(task, "running")).map(|task| self.task(task)).collect()
    }

    fn completed(&self) -> Result<usize> {
        Ok(self.listed(&json!({}))?.iter().filter(|task| is_in(task, "complete")).count())
    }

    fn is_clear(&self) -> Result<bool> {
        for engine in self.engines.values() {
            let containers = engine.get("/containers/json?all=1")?;
            if containers.as_array().is_none_or(|containers| !containers.is_empty()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn leader(&self) -> Result<Name> {
        let nodes = self.ask(|engine| engine.get("/nodes"))?;
        let (_, _, leader) = count_nodes(&nodes);
        let name = leader.and_then(|id| self.nodes.get(id)).copied();
        name.context("no manager leads")
    }

    fn is_whole(&self) -> Result<bool> {
        let all = self.machines.names().len();
        for name in self.managers() {
            let nodes = self.engine(name)?.get("/nodes")?;
            let (ready, reachable, leader) = count_nodes(&nodes);
            if ready != all || reachable != self.managers().count() || leader.is_none() {
                return Ok(false);
            }
        }
        // Only when every manager agrees: what comes next is asked of the leader itself.
        self.front.set(self.leader()?);
        Ok(true)
    }

    fn next_write(&self, lost: Name) -> Result<()> {
        let others: Vec<PathBuf> = self
            .managers()
            .filter(|name| *name != lost)
            .map(|name| Ok(self.engine(name)?.socket().to_owned()))
            .collect::<Result<_>>()?;
        self.runtime.block_on(swarm_load::first_write(&others, Duration::from_millis(200)))?;
        Ok(())
    }

    fn kill_daemon(&mut self, name: Name) -> Result<()> {
        self.machines.kill(name)
    }

    fn start_daemon(&mut self, name: Name) -> Result<()> {
        self.spawn(name)?;
        self.wait_answers(name)
    }

    fn isolate(&mut self, name: Name) -> Result<()> {
        self.machines.set_link(name, false)
    }

    fn heal(&mut self, name: Name) -> Result<()> {
        self.machines.set_link(name, true)
    }

    fn power_off(&mut self, name: Name) -> Result<()> {
        self.machines.power_off(name)
    }

    fn power_on(&mut self, name: Name) -> Result<()> {
        self.machines.power_on(name)?;
        self.prepare(name)?;
        self.start_daemon(name)
    }

    fn load(&mut self, repetitions: u32, report: &mut Report) -> Result<()> {
        let leader = self.leader()?;
        let daemons = load::managers(self)?;
        swarm_load::measure(self.engine(leader)?.socket(), &daemons, repetitions, report)
    }
}
