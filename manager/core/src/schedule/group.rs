//! Waiting tasks that are alike: one service, one specification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::Platform;
use coracle_model::placement::Strategy;
use coracle_model::service::{Placement, Service, TaskSpec};
use coracle_model::task::{Task, TaskState};
use coracle_model::time::Timestamp;

use super::away;
use super::room::Rooms;
use crate::orchestrate::is_up_to_date;
use crate::state::State;

/// Tasks of a service that ended badly on a node, within [`FAILURE_WINDOW`], before it is chosen last.
///
/// They are counted from the tasks that the store holds: fewer than the history that is kept by default, so that the only task
/// of a service counts too.
pub(super) const FAILURES_TOLERATED: u32 = 3;
/// How long a bad end on a node counts.
pub(super) const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Waiting tasks that are alike, and what bears on placing them.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) spec: &'a TaskSpec,
    /// Of the service as it is wanted now: a change of placement alone makes no new tasks.
    pub(super) placement: &'a Placement,
    pub(super) platform: Option<&'a Platform>,
    pub(super) tasks: Vec<&'a Arc<Task>>,
    state: &'a State,
    now: Timestamp,
    /// What the service has on nodes where it has anything, where all of them are looked at; else nodes are asked one by one.
    on_nodes: Option<BTreeMap<NodeId, OnNode>>,
    /// Its tasks on nodes that got any since.
    grown: BTreeMap<NodeId, u64>,
    pub(super) apart: Apart,
}

/// What the tasks of a group are not to be beside.
#[derive(Debug, Clone, Default)]
pub(super) struct Apart {
    services: BTreeSet<ServiceId>,
    /// Where those services have tasks.
    pub(super) nodes: BTreeSet<NodeId>,
    /// A node has one task of the group at most.
    pub(super) from_itself: bool,
}

impl Apart {
    /// Whether the group may be beside anything.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    fn of(state: &State, service: &Service) -> Self {
        let services = away::apart_from(state, service);
        let tasks = services.iter().flat_map(|other| state.tasks_of_service(*other));
        let nodes = tasks.filter(|task| task.may_run()).filter_map(|task| task.node).collect();
        Self { from_itself: services.contains(&service.id), services, nodes }
    }
}

/// What a service has on one node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OnNode {
    /// Its live tasks.
    pub(super) tasks: u64,
    /// Its tasks of the present specification that ended badly of late.
    pub(super) failures: u32,
}

/// The groups, in the order in which they began to wait. Tasks of removed services are left out: they go.
pub(super) fn groups(state: &State, now: Timestamp) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for task in state.pending_tasks() {
        match groups.last_mut() {
            Some(group) if is_alike(group.tasks[0], task) => group.tasks.push(task),
            _ => groups.extend(Group::of_task(state, task, now)),
        }
    }
    for group in &mut groups {
        group.tasks.sort_by_key(|task| (task.created_at, task.slot));
    }
    groups.sort_by_key(|group| (group.tasks[0].created_at, group.service.id));
    groups
}

fn is_alike(one: &Task, other: &Task) -> bool {
    one.service == other.service && one.spec_version == other.spec_version
}

impl<'a> Group<'a> {
    /// A group of one; none when its service is gone.
    pub(super) fn of_task(state: &'a State, task: &'a Arc<Task>, now: Timestamp) -> Option<Self> {
        let service = state.service(task.service)?;
        let spec = state.task_spec(task.service, task.spec_version)?;
        let digest = spec.container.image.digest;
        Some(Self {
            service,
            spec,
            placement: &service.spec.task.placement,
            platform: state.platform_of(digest),
            tasks: vec![task],
            state,
            now,
            on_nodes: looks_at_all(&service.spec.task.placement).then(|| on_nodes(state, service, now)),
            grown: BTreeMap::new(),
            apart: Apart::of(state, service),
        })
    }

    /// What bears on placing another task of a service, of which none waits.
    pub(super) fn of_service(state: &'a State, service: &'a Arc<Service>, now: Timestamp) -> Self {
        let digest = service.spec.task.container.image.digest;
        Self {
            service,
            spec: &service.spec.task,
            placement: &service.spec.task.placement,
            platform: state.platform_of(digest),
            tasks: Vec::new(),
            state,
            now,
            on_nodes: Some(on_nodes(state, service, now)),
            grown: BTreeMap::new(),
            apart: Apart::of(state, service),
        }
    }

    /// Counts tasks that were placed since the group was made: of the service, and of those that it keeps apart from.
    pub(super) fn count(&mut self, rooms: &Rooms<'_>) {
        for (node, tasks) in rooms.placed(self.service.id) {
            let present = self.on_node(node).tasks;
            self.grown.insert(node, present + tasks);
        }
        let beside = self.apart.services.iter().flat_map(|other| rooms.placed(*other));
        self.apart.nodes.extend(beside.map(|(node, _)| node));
    }

    /// What the service has on a node now.
    pub(super) fn on_node(&self, node: NodeId) -> OnNode {
        let mut on_node = match &self.on_nodes {
            Some(on_nodes) => on_nodes.get(&node).copied().unwrap_or_default(),
            None => {
                let mut on_node = OnNode::default();
                let tasks = self.state.tasks_of_service_on_node(self.service.id, node);
                tasks.for_each(|task| on_node.count(self.state, self.service, task, self.now));
                on_node
            }
        };
        if let Some(tasks) = self.grown.get(&node) {
            on_node.tasks = *tasks;
        }
        on_node
    }

    /// What it asks for, without those who do.
    pub(super) fn without_tasks(&self) -> Self {
        Self { tasks: Vec::new(), ..self.clone() }
    }

    /// Notes that one of its tasks was placed on a node.
    pub(super) fn place(&mut self, node: NodeId) {
        let tasks = self.on_node(node).tasks + 1;
        self.grow(node, tasks);
        if self.apart.from_itself {
            self.apart.nodes.insert(node);
        }
    }

    /// Notes how many tasks the service has on a node since it got some.
    pub(super) fn grow(&mut self, node: NodeId, tasks: u64) {
        self.grown.insert(node, tasks);
    }
}

impl OnNode {
    fn count(&mut self, state: &State, service: &Service, task: &Task, now: Timestamp) {
        if task.is_live() {
            self.tasks += 1;
        } else if failed_of_late(task, now) && is_up_to_date(state, service, task) {
            self.failures += 1;
        }
    }
}

/// Whether the order in which nodes come needs to know what is on all of them.
pub(super) fn looks_at_all(placement: &Placement) -> bool {
    !placement.preferences.is_empty() || placement.strategy != Strategy::Spread
}

fn on_nodes(state: &State, service: &Service, now: Timestamp) -> BTreeMap<NodeId, OnNode> {
    let mut on_nodes: BTreeMap<NodeId, OnNode> = BTreeMap::new();
    for task in state.tasks_of_service(service.id) {
        if let Some(node) = task.node {
            on_nodes.entry(node).or_default().count(state, service, task, now);
        }
    }
    on_nodes
}

fn failed_of_late(task: &Task, now: Timestamp) -> bool {
    matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
        && now.since(task.status.since) <= FAILURE_WINDOW
}
