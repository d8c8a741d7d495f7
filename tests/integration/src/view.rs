//! What the managers say, at one moment, in a form that tests can ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use coracle_model::task::{DesiredState, TaskState};
use coracle_proto::v1;

/// The nodes, services and tasks of the cluster, as one manager listed them one after the other.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Every node.
    pub nodes: Vec<v1::NodeListItem>,
    /// Every service.
    pub services: Vec<v1::ServiceListItem>,
    /// Every task, history included.
    pub tasks: Vec<Task>,
}

/// A task, flattened to what tests ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its identifier.
    pub id: String,
    /// The name of its service.
    pub service: String,
    /// Its slot, as text: a number or a node's identifier.
    pub slot: String,
    /// The host name of its node; empty while it has none.
    pub node: String,
    /// What the managers want of it.
    pub desired: u32,
    /// How far it is.
    pub state: u32,
    /// Its process on its node; zero when there is none.
    pub pid: u32,
    /// What went wrong.
    pub error: String,
    /// Why it has no node.
    pub waiting: String,
    /// How its process ended.
    pub exit: Option<v1::exit::How>,
    /// Starts that its agent made on its own.
    pub local_restarts: u32,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: u64,
    /// The specification that it runs.
    pub spec_version: u64,
}

impl Task {
    /// Takes what the API says apart.
    #[must_use]
    pub fn from_item(item: v1::TaskListItem) -> Self {
        let task = item.task.unwrap_or_default();
        let status = task.status.unwrap_or_default();
        let slot = match task.slot.and_then(|slot| slot.slot) {
            Some(v1::slot::Slot::Number(number)) => number.to_string(),
            Some(v1::slot::Slot::Node(node)) => node,
            None => String::new(),
        };
        Self {
            id: task.id,
            service: item.service_name,
            slot,
            node: item.node_hostname,
            desired: task.desired,
            state: status.state,
            pid: status.pid,
            error: status.error,
            waiting: item.waiting,
            exit: status.exit.and_then(|exit| exit.how),
            local_restarts: status.local_restarts,
            created_at: task.created_at,
            spec_version: task.spec_version,
        }
    }

    /// Whether it runs and should.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == number(TaskState::Running) && self.is_wanted()
    }

    /// Whether it is wanted at most running.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.desired <= u32::from(DesiredState::Running.number())
    }

    /// Whether nothing will happen to it any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.state > number(TaskState::Running)
    }

    /// The exit status, when it ended with one.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.exit {
            Some(v1::exit::How::Code(code)) => Some(code),
            _ => None,
        }
    }
}

/// The number of a state as the API has it.
#[must_use]
pub fn number(state: TaskState) -> u32 {
    u32::from(state.number())
}

impl View {
    /// The tasks of a service, history included.
    pub fn tasks_of<'view>(&'view self, service: &'view str) -> impl Iterator<Item = &'view Task> {
        self.tasks.iter().filter(move |task| task.service == service)
    }

    /// How many tasks of a service run and should.
    #[must_use]
    pub fn running(&self, service: &str) -> usize {
        self.tasks_of(service).filter(|task| task.is_running()).count()
    }

    /// The same on one node.
    #[must_use]
    pub fn running_on(&self, service: &str, node: &str) -> usize {
        self.tasks_of(service).filter(|task| task.is_running() && task.node == node).count()
    }

    /// Whether exactly `count` tasks are wanted, all of them run, and nothing else of the service still may run.
    #[must_use]
    pub fn settled(&self, service: &str, count: usize) -> bool {
        let still = self.tasks_of(service).filter(|task| !task.is_terminal()).count();
        self.running(service) == count && still == count
    }

    /// Identifiers of the tasks that run.
    #[must_use]
    pub fn running_ids(&self, service: &str) -> BTreeSet<String> {
        self.tasks_of(service).filter(|task| task.is_running()).map(|task| task.id.clone()).collect()
    }

    /// Process numbers of the running tasks of all services, by task.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<String, (String, u32)> {
        let running = self.tasks.iter().filter(|task| task.is_running());
        running.map(|task| (task.id.clone(), (task.node.clone(), task.pid))).collect()
    }

    /// The node with this host name.
    #[must_use]
    pub fn node(&self, hostname: &str) -> Option<&v1::NodeListItem> {
        self.nodes.iter().find(|item| hostname_of(item) == hostname)
    }

    /// Whether the node is ready.
    #[must_use]
    pub fn is_ready(&self, hostname: &str) -> bool {
        self.node_state(hostname) == Some(v1::NodeState::Ready)
    }

    /// Whether the node counts as lost.
    #[must_use]
    pub fn is_down(&self, hostname: &str) -> bool {
        self.node_state(hostname) == Some(v1::NodeState::Down)
    }

    fn node_state(&self, hostname: &str) -> Option<v1::NodeState> {
        let status = self.node(hostname)?.node.as_ref()?.status.as_ref()?;
        Some(status.state())
    }

    /// How many nodes are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.nodes.iter().filter(|item| self.is_ready(hostname_of(item))).count()
    }

    /// The host name of the leader.
    #[must_use]
    pub fn leader(&self) -> Option<&str> {
        self.nodes.iter().find(|item| item.leader).map(hostname_of)
    }

    /// How many managers have a vote and are heard by the leader.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.nodes.iter().filter(|item| item.voter && item.reachable).count()
    }

    /// Slots with more than one task that runs and should, on nodes that are not down.
    #[must_use]
    pub fn crowded_slots(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let running = self.tasks.iter().filter(|task| task.is_running() && !self.is_down(&task.node));
        running
            .filter(|task| !seen.insert((task.service.clone(), task.slot.clone())))
            .map(|task| format!("{}.{}", task.service, task.slot))
            .collect()
    }
}

/// The host name in a list of nodes.
#[must_use]
pub fn hostname_of(item: &v1::NodeListItem) -> &str {
    let description = item.node.as_ref().and_then(|node| node.description.as_ref());
    description.map_or("", |description| description.hostname.as_str())
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.nodes {
            let hostname = hostname_of(item);
            let state = self.node_state(hostname).map_or("?", |state| state.as_str_name());
            let marks = [(item.leader, " leader"), (item.voter, " voter"), (item.reachable, " reachable")];
            let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
            writeln!(f, "  node {hostname} {state}{marks}")?;
        }
        for task in &self.tasks {
            let state = TaskState::ALL.into_iter().find(|state| number(*state) == task.state);
            let state = state.map_or_else(|| task.state.to_string(), |state| state.to_string());
            write!(
                f,
                "  task {} {}.{} on {:?}: {state}",
                short(&task.id),
                task.service,
                short(&task.slot),
                task.node
            )?;
            if !task.is_wanted() {
                write!(f, " (desired {})", task.desired)?;
            }
            for detail in [&task.error, &task.waiting] {
                if !detail.is_empty() {
                    write!(f, ": {detail}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
