//! A cluster on this machine: hosts, the segment between them, daemons, and the questions that tests ask.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use coracle_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::api::{self, Api};
use crate::cgroup;
use crate::cli::{self, Finished};
use crate::fault::{Cuts, Way};
use crate::host::Host;
use crate::image;
use crate::name::{M1, Name};
use crate::network::Segment;
use crate::node::{DAEMON_DEADLINE, Folders, Node};
use crate::process::{self, Process};
use crate::view::View;
use crate::writer::Writer;

/// How long a cluster may take to reach what it should, where a test does not say otherwise.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How long forming a cluster may take.
pub const FORM_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest path of a socket (unix(7): 108 bytes with the end mark), less what a node's folder adds.
const FOLDER_LIMIT: usize = 107 - "/m1/run/coracle.sock".len();
/// File system type of overlayfs (magic.h): the upper folder of a container cannot lie on it.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Set when the program was asked to end; waiting stops with an error, so that everything is cleaned up.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How a lab is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where its files go; emptied first.
    pub folder: PathBuf,
    /// The product.
    pub binary: PathBuf,
    /// Part of the names of cgroups: begins with the number of the process that answers for them.
    pub run: String,
    /// Whether hosts end with the calling thread.
    pub bound: bool,
}

impl Plan {
    /// A lab of the calling thread.
    #[must_use]
    pub fn bound(folder: &Path, binary: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let run = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { folder: folder.to_owned(), binary: binary.to_owned(), run, bound: true }
    }
}

/// What is kept of a lab that outlives its program.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    run: String,
    binary: PathBuf,
    switch: Process,
    nodes: Vec<SavedNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedNode {
    manager: bool,
    number: u8,
    init: Process,
    daemon: Option<Process>,
}

/// A cluster on this machine.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    // Before the segment: cables go with the hosts.
    nodes: BTreeMap<Name, Node>,
    clients: BTreeMap<Name, Api>,
    segment: Segment,
    cuts: Cuts,
    runtime: Arc<Runtime>,
    allowed_errors: Vec<String>,
    /// Who answered last: asked first, so that one that is cut off does not slow every look.
    answered: Cell<Option<Name>>,
}

impl Lab {
    /// A segment without hosts.
    ///
    /// # Errors
    /// When the machine does not allow it, or the folder does not suit.
    pub fn new(plan: Plan) -> Result<Self> {
        cgroup::sweep();
        prepare_folder(&plan.folder)?;
        let segment = Segment::start(plan.bound)?;
        let (nodes, clients) = (BTreeMap::new(), BTreeMap::new());
        let (cuts, runtime) = (Cuts::default(), api::runtime()?);
        let (allowed_errors, answered) = (Vec::new(), Cell::new(None));
        Ok(Self { plan, nodes, clients, segment, cuts, runtime, allowed_errors, answered })
    }

    /// Takes charge again of the lab that [`Lab::leave`] left in this folder; nothing when there is none.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn adopt(folder: &Path) -> Result<Option<Self>> {
        let Ok(text) = fs::read_to_string(folder.join("lab.json")) else { return Ok(None) };
        let saved: Saved = serde_json::from_str(&text).context("read lab.json")?;
        let plan = Plan { folder: folder.to_owned(), binary: saved.binary, run: saved.run, bound: false };
        let mut lab = Self {
            segment: Segment::adopt(Host::adopt("switch", saved.switch)),
            plan,
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            cuts: Cuts::default(),
            runtime: api::runtime()?,
            allowed_errors: Vec::new(),
            answered: Cell::new(None),
        };
        for node in saved.nodes {
            let name = if node.manager { Name::Manager(node.number) } else { Name::Worker(node.number) };
            lab.add_node(name, Host::adopt(&name.to_string(), node.init))?.adopt_daemon(node.daemon);
        }
        Ok(Some(lab))
    }

    /// Leaves everything running, to be taken up again by [`Lab::adopt`].
    ///
    /// # Errors
    /// When the record cannot be written; the lab is then ended.
    pub fn leave(mut self) -> Result<()> {
        let nodes = self.nodes.values().map(|node| {
            let (manager, number) = match node.name() {
                Name::Manager(number) => (true, number),
                Name::Worker(number) => (false, number),
            };
            Ok(SavedNode { manager, number, init: node.host()?.init(), daemon: node.daemon() })
        });
        let saved = Saved {
            run: self.plan.run.clone(),
            binary: self.plan.binary.clone(),
            switch: self.segment.switch().init(),
            nodes: nodes.collect::<Result<_>>()?,
        };
        fs::write(self.plan.folder.join("lab.json"), serde_json::to_vec_pretty(&saved)?)
            .context("write lab.json")?;
        self.nodes.values_mut().for_each(Node::detach);
        self.segment.switch_mut().detach();
        // Nothing is left to end: the values must not remove the cgroups.
        self.nodes.clear();
        Ok(())
    }

    /// Adds a host with an idle daemon, and waits until the daemon answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add(&mut self, name: Name) -> Result<()> {
        self.add_host(name)?;
        self.start_daemon(name)
    }

    /// Adds a host on which nothing runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add_host(&mut self, name: Name) -> Result<()> {
        let host = Host::start(&name.to_string(), self.plan.bound)?;
        self.segment.plug(name, &host)?;
        self.add_node(name, host)?;
        Ok(())
    }

    fn add_node(&mut self, name: Name, host: Host) -> Result<&mut Node> {
        let folders = Folders::new(&self.plan.folder, name);
        self.clients.insert(name, Api::new(Arc::clone(&self.runtime), &folders.socket())?);
        let node = Node::new(name, folders, &self.plan.binary, cgroup::parent(&self.plan.run, name), host)?;
        Ok(self.nodes.entry(name).insert_entry(node).into_mut())
    }

    /// Starts a daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_daemon(&mut self, name: Name) -> Result<()> {
        self.node(name).start_daemon()?;
        self.wait_answers(name)
    }

    /// Waits until the daemon answers on its socket.
    ///
    /// # Errors
    /// When it does not, or has ended.
    pub fn wait_answers(&self, name: Name) -> Result<()> {
        let node = self.get(name)?;
        let answered = process::wait(DAEMON_DEADLINE, || {
            let ended = node.daemon().is_none();
            (ended || self.api(name).is_ok_and(|api| api.info().is_ok())).then_some(!ended)
        });
        if answered == Some(true) {
            return Ok(());
        }
        bail!("the daemon of {name} does not answer (ended: {}):\n{}", answered.is_some(), node.log_tail(40));
    }

    /// Makes a swarm of all hosts: `init` on m1, the others join by their names' roles.
    ///
    /// # Errors
    /// When a command fails or the cluster does not form.
    pub fn form(&mut self) -> Result<()> {
        self.cli(M1, &format!("swarm init --advertise-addr {}", M1.address())).ok()?;
        let manager = self.cli(M1, "swarm join-token -q manager").ok()?;
        let worker = self.cli(M1, "swarm join-token -q worker").ok()?;
        for name in self.names() {
            if name != M1 {
                let token = if name.is_manager() { &manager } else { &worker };
                self.cli(name, &format!("swarm join --token {token} {}:2377", M1.address())).ok()?;
            }
        }
        let all = self.nodes.len();
        let managers = self.nodes.keys().filter(|name| name.is_manager()).count();
        self.eventually_within("all nodes are ready, all managers vote", FORM_DEADLINE, |view| {
            view.ready() == all && view.voters() == managers
        })?;
        Ok(())
    }

    /// Loads the responder on a node, as [`image::RESPONDER`].
    ///
    /// # Errors
    /// When it was not built, or the command fails.
    pub fn load_responder(&self, name: Name) -> Result<()> {
        let path = self.plan.folder.join("responder.tar");
        fs::write(&path, image::saved_archive(&image::responder_binary()?, image::RESPONDER)?)?;
        self.cli(name, &format!("image load -i {}", path.display())).ok()?;
        Ok(())
    }

    /// The names of all nodes, managers first.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        self.nodes.keys().copied().collect()
    }

    /// The runtime of the lab's clients.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// The folder of the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.plan.folder
    }

    /// The product's file.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.plan.binary
    }

    /// A node.
    ///
    /// # Errors
    /// When the lab has none of this name.
    pub fn get(&self, name: Name) -> Result<&Node> {
        self.nodes.get(&name).with_context(|| format!("this lab has no host {name}"))
    }

    /// A node, to do something to it.
    ///
    /// # Panics
    /// When the lab has none of this name: the test is wrong.
    pub fn node(&mut self, name: Name) -> &mut Node {
        self.nodes.get_mut(&name).expect("the lab has a host of this name")
    }

    /// The name of the node with this host name.
    ///
    /// # Errors
    /// When there is none.
    pub fn by_hostname(&self, hostname: &str) -> Result<Name> {
        let found = self.nodes.keys().find(|name| name.to_string() == hostname);
        found.copied().with_context(|| format!("this lab has no host {hostname:?}"))
    }

    /// The API of a node.
    ///
    /// # Errors
    /// When the lab has none of this name.
    pub fn api(&self, name: Name) -> Result<&Api> {
        self.clients.get(&name).with_context(|| format!("this lab has no host {name}"))
    }

    /// Runs the command line on a node.
    #[must_use]
    pub fn cli(&self, name: Name, line: &str) -> Finished {
        match self.get(name).and_then(|node| Ok((node, node.host()?))) {
            Ok((node, host)) => cli::run(host, &self.plan.binary, &node.folders().socket(), line),
            Err(error) => Finished::impossible(line, error),
        }
    }

    /// Starts the command line on a node and leaves it running; its standard output is to be read.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_cli(&self, name: Name, line: &str) -> Result<Child> {
        let node = self.get(name)?;
        let mut command = cli::command(node.host()?, &self.plan.binary, &node.folders().socket(), line)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("start coracle {line}"))
    }

    /// What the managers say, asked of whichever answers.
    ///
    /// # Errors
    /// When none does.
    pub fn view(&self) -> Result<View> {
        let mut failures = Vec::new();
        for name in self.answered.get().into_iter().chain(self.names()) {
            if self.get(name)?.daemon().is_some() {
                match self.view_from(name) {
                    Ok(view) => {
                        self.answered.set(Some(name));
                        return Ok(view);
                    }
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
        }
        bail!("no manager answers: {}", failures.join("; "))
    }

    /// What the managers say, asked of this node.
    ///
    /// # Errors
    /// When it is no manager or there is no leader that it reaches.
    pub fn view_from(&self, name: Name) -> Result<View> {
        self.api(name)?.view().with_context(|| format!("ask {name}"))
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn info(&self, name: Name) -> Result<v1::InfoResponse> {
        self.api(name)?.info().with_context(|| format!("ask {name}"))
    }

    /// The leader, by what the managers say.
    ///
    /// # Errors
    /// When there is none within [`DEADLINE`].
    pub fn leader(&self) -> Result<Name> {
        let view = self.eventually("there is a leader", |view| view.leader().is_some())?;
        self.by_hostname(view.leader().unwrap_or_default())
    }

    /// Starts a client that writes labels of `target` through the managers' sockets.
    ///
    /// # Errors
    /// When the lab has no manager.
    pub fn start_writer(&self, target: Name) -> Result<Writer> {
        let managers: Vec<Api> =
            self.clients.iter().filter(|(name, _)| name.is_manager()).map(|(_, api)| api.clone()).collect();
        if managers.is_empty() {
            bail!("this lab has no manager to write to");
        }
        Ok(Writer::start(managers, &target.to_string()))
    }

    /// Waits until the cluster is as described, and gives what was seen then.
    ///
    /// # Errors
    /// When it is not within [`DEADLINE`]: with the last view and the ends of the logs.
    pub fn eventually(&self, what: &str, predicate: impl FnMut(&View) -> bool) -> Result<View> {
        self.eventually_within(what, DEADLINE, predicate)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// When it is not within `deadline`.
    pub fn eventually_within(
        &self,
        what: &str,
        deadline: Duration,
        predicate: impl FnMut(&View) -> bool,
    ) -> Result<View> {
        self.eventually_from(None, what, deadline, predicate)
    }

    /// The same, asking only one node when one is given.
    ///
    /// # Errors
    /// When it is not within `deadline`.
    pub fn eventually_from(
        &self,
        from: Option<Name>,
        what: &str,
        deadline: Duration,
        mut predicate: impl FnMut(&View) -> bool,
    ) -> Result<View> {
        let end = Instant::now() + deadline;
        loop {
            let last = from.map_or_else(|| self.view(), |name| self.view_from(name));
            let last = match last {
                Ok(view) if predicate(&view) => return Ok(view),
                Ok(view) => view.to_string(),
                Err(error) => format!("  {error:#}\n"),
            };
            if Instant::now() >= end {
                bail!("not within {deadline:?}: {what}; last seen:\n{last}{}", self.log_tails(12));
            }
            pause()?;
        }
    }

    /// Waits for something that the API does not tell.
    ///
    /// # Errors
    /// When it is not so within [`DEADLINE`].
    pub fn until(&self, what: &str, mut predicate: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            let last = predicate(self);
            match last {
                Ok(true) => return Ok(()),
                _ if Instant::now() < end => pause()?,
                Ok(false) => bail!("not within {DEADLINE:?}: {what}\n{}", self.log_tails(12)),
                Err(error) => return Err(error.context(format!("not within {DEADLINE:?}: {what}"))),
            }
        }
    }

    /// Makes sure that something stays so for a while.
    ///
    /// # Errors
    /// At the first look at which it is not.
    pub fn stays(&self, what: &str, length: Duration, predicate: impl Fn(&View) -> bool) -> Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            let view = self.view()?;
            if !predicate(&view) {
                bail!("did not stay so: {what}; seen:\n{view}");
            }
            pause()?;
        }
        Ok(())
    }

    /// Loses all packets between a host and some others, both ways.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut(&mut self, name: Name, others: &[Name]) -> Result<()> {
        for other in others {
            self.cuts.add(name, Way::In, *other);
            self.cuts.add(name, Way::Out, *other);
        }
        self.cuts.apply(name, self.get(name)?.host()?)
    }

    /// Loses all packets from one host to another; the other way they pass.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut_one_way(&mut self, from: Name, to: Name) -> Result<()> {
        self.cuts.add(from, Way::Out, to);
        self.cuts.apply(from, self.get(from)?.host()?)
    }

    /// Pulls a host's cable.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn isolate(&mut self, name: Name) -> Result<()> {
        self.segment.set_link(name, false)
    }

    /// Takes back all cuts at a host, and its cable is put back.
    ///
    /// # Errors
    /// When `nft` or `ip` fails.
    pub fn heal(&mut self, name: Name) -> Result<()> {
        for at in self.cuts.heal(name) {
            self.cuts.apply(at, self.get(at)?.host()?)?;
        }
        self.segment.set_link(name, true)
    }

    /// Power loss of a whole host; its disk keeps what was written.
    ///
    /// # Errors
    /// When something on it survives.
    pub fn power_off(&mut self, name: Name) -> Result<()> {
        self.node(name).power_off()
    }

    /// Switches a host on again; its daemon is started and answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on(&mut self, name: Name) -> Result<()> {
        self.power_on_host(name)?;
        self.start_daemon(name)
    }

    /// Switches a host on again; nothing runs on it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on_host(&mut self, name: Name) -> Result<()> {
        let host = Host::start(&name.to_string(), self.plan.bound)?;
        // The old cable's far end goes with its host, but a little later.
        let port = name.to_string();
        let switch = self.segment.switch();
        process::wait(DAEMON_DEADLINE, || switch.run(["ip", "link", "show", &port]).is_err().then_some(()))
            .with_context(|| format!("the old cable of {name} is still plugged"))?;
        self.segment.plug(name, &host)?;
        self.node(name).power_on(host);
        Ok(())
    }

    /// Lets a test expect lines of level ERROR with this text in daemons' logs.
    pub fn allow_error(&mut self, text: &str) {
        self.allowed_errors.push(text.to_owned());
    }

    /// Texts that error lines may have.
    #[must_use]
    pub fn allowed_errors(&self) -> &[String] {
        &self.allowed_errors
    }

    /// The ends of all daemons' logs.
    #[must_use]
    pub fn log_tails(&self, lines: usize) -> String {
        self.nodes.values().fold(String::new(), |mut text, node| {
            let running = if node.daemon().is_some() { "runs" } else { "does not run" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "--- daemon of {} ({running}):\n{}", node.name(), node.log_tail(lines));
            text
        })
    }

    /// Writes down what can be seen from outside, for whoever looks into a failure.
    pub fn keep_artifacts(&self) {
        let mut text = self.view().map_or_else(|error| format!("{error:#}\n"), |view| view.to_string());
        for node in self.nodes.values() {
            let commands: [&[&str]; 4] = [
                &["ip", "-d", "address"],
                &["nft", "list", "ruleset"],
                &["ps", "-e", "-o", "pid,ppid,stat,etime,rss,args"],
                &["cat", "/proc/self/mountinfo"],
            ];
            for command in commands {
                let seen = node.host().and_then(|host| {
                    let rest = command.get(1..).unwrap_or_default();
                    process::output(host.command(command[0]).args(rest))
                });
                let seen = seen.unwrap_or_else(|error| format!("{error:#}"));
                // Writing to a string cannot fail.
                let _ = writeln!(text, "=== {} {}\n{seen}", node.name(), command.join(" "));
            }
        }
        // A failure to keep more must not hide the failure itself.
        let _ = fs::write(self.plan.folder.join("seen.txt"), text);
    }

    /// Ends everything: processes, namespaces, cgroups. Files stay.
    ///
    /// # Errors
    /// When something remains.
    pub fn end(mut self) -> Result<()> {
        let result = self.take_down();
        // A second attempt by `drop` would find nothing.
        self.nodes.clear();
        result
    }

    fn take_down(&mut self) -> Result<()> {
        // All hosts first, then their cgroups: tries everything and tells the first failure.
        let results: Vec<Result<()>> = self.nodes.values_mut().map(Node::power_off).collect();
        let switch = self.segment.switch_mut().power_off();
        results.into_iter().chain([switch]).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.nodes.is_empty() {
            // Best effort on the way out; the next lab sweeps what is left.
            let _ = self.take_down();
        }
    }
}

/// From now on an interrupt from the keyboard ends waiting instead of the program.
///
/// # Errors
/// When the signal cannot be caught.
pub fn catch_interrupt(runtime: &Runtime) -> Result<()> {
    let mut interrupt = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).context("catch SIGINT")?
    };
    runtime.spawn(async move {
        interrupt.recv().await;
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// A short pause between two looks.
fn pause() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

fn prepare_folder(folder: &Path) -> Result<()> {
    if folder.as_os_str().len() > FOLDER_LIMIT {
        bail!(
            "lab folder {}: too long for the path of a socket; set CORACLE_LAB_DIR to a shorter one",
            folder.display()
        );
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let system = rustix::fs::statfs(folder).with_context(|| format!("statfs {}", folder.display()))?;
    if u64::try_from(system.f_type).is_ok_and(|kind| kind == OVERLAY_MAGIC) {
        bail!(
            "lab folder {}: lies on overlayfs, which cannot hold containers; set CORACLE_LAB_DIR to a folder on ext4, \
             xfs, btrfs or tmpfs",
            folder.display()
        );
    }
    Ok(())
}
