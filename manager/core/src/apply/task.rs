//! Changes of tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_model::id::{NodeId, TaskId};
use coracle_model::node::Node;
use coracle_model::rebalance::Move;
use coracle_model::rollout::Order;
use coracle_model::task::{DesiredState, Task, TaskState, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::outcome::{Refusal, RefusalKind};
use crate::schedule::away;

impl Writing {
    pub(super) fn create_task(
        &mut self,
        task: &Task,
        service_version: Version,
        beside: Option<TaskId>,
    ) -> Applied {
        let service = self.state.service(task.service).ok_or_else(|| not_found("service", task.service))?;
        check_version("service", task.service, service.version, service_version)?;
        if self.state.task(task.id).is_some() {
            return Err(Refusal::new(RefusalKind::Exists, format!("task {} exists already", task.id)));
        }
        if task.node.is_some()
            || task.status.state > TaskState::Pending
            || task.desired > DesiredState::Running
        {
            let message = format!("task {} is not new: it has a node, a state or is not wanted", task.id);
            return Err(Refusal::new(RefusalKind::Malformed, message));
        }
        if self.state.task_spec(task.service, task.spec_version).is_none() {
            let message = format!("service {} has no specification {}", task.service, task.spec_version);
            return Err(Refusal::new(RefusalKind::Stale, message));
        }
        // Two plans made from one view would otherwise fill a slot twice.
        // Runs of a job may overlap.
        let holder = |held: &&Arc<Task>| held.is_live() && Some(held.id) != beside && held.run == task.run;
        if let Some(holder) = self.state.tasks_of_slot(task.service, task.slot).find(holder) {
            let message =
                format!("slot {} of service {} is held by task {}", task.slot, task.service, holder.id);
            return Err(Refusal::new(RefusalKind::Exists, message));
        }
        self.check_may_begin(task, task.desired)?;
        let mut task = Task { created_at: self.time, ..task.clone() };
        task.status.since = self.time;
        self.write_task(task);
        self.touched.pending = true;
        Ok(())
    }

    pub(super) fn assign_task(
        &mut self,
        id: TaskId,
        expected: Version,
        node: NodeId,
        node_version: Version,
        generic: &BTreeMap<String, Vec<String>>,
    ) -> Applied {
        let task = self.state.task(id).ok_or_else(|| not_found("task", id))?;
        check_version("task", id, task.version, expected)?;
        let holder = self.state.node(node).ok_or_else(|| not_found("node", node))?;
        check_version("node", node, holder.version, node_version)?;
        if !task.is_live() || task.node.is_some() {
            let message = format!("task {id} no longer waits for a node");
            return Err(Refusal::new(RefusalKind::Stale, message));
        }
        self.check_room(task, holder, generic)?;
        self.check_number(task, holder)?;
        self.check_neighbours(task, holder)?;
        let mut task = Task { node: Some(node), generic: generic.clone(), ..(**task).clone() };
        task.status.state = TaskState::Assigned;
        task.status.since = self.time;
        self.write_task(task);
        Ok(())
    }

    pub(super) fn raise_desired(
        &mut self,
        id: TaskId,
        desired: DesiredState,
        service_version: Version,
    ) -> Applied {
        let task = self.state.task(id).ok_or_else(|| not_found("task", id))?;
        if desired > task.desired {
            // Of a service that was removed meanwhile nothing is wanted.
            if let Some(service) = self.state.service(task.service) {
                check_version("service", task.service, service.version, service_version)?;
            }
            self.check_may_begin(task, desired)?;
            let task = Task { desired, ..(**task).clone() };
            // One that is given up no longer counts towards the most that a node may have of its service.
            self.touched.pending |= desired > DesiredState::Running;
            self.write_task(task);
        }
        Ok(())
    }

    pub(super) fn report_task(&mut self, id: TaskId, node: Option<NodeId>, report: &TaskStatus) -> Applied {
        let Some(task) = self.state.task(id) else { return Ok(()) };
        if node.is_some() && (task.node != node || !is_for_agents(report.state)) {
            return Ok(());
        }
        let report = TaskStatus { since: self.since(task, report), ..report.clone() };
        let mut task = (**task).clone();
        if task.status.advance(&report) {
            self.touched.pending |= task.status.state.is_terminal();
            if task.status.state == TaskState::Running && task.running_since.is_none() {
                task.running_since = Some(self.time);
            }
            self.write_task(task);
        }
        Ok(())
    }

    /// Since when it is as reported, by cluster time. A node whose clock runs ahead must not push times into the future; where its
    /// clock is behind, or was set, it still knows how long its task ran.
    fn since(&self, task: &Task, report: &TaskStatus) -> Timestamp {
        let ran = || report.since.since(task.status.since);
        match task.running_since {
            Some(since) if task.status.state == TaskState::Running && report.state.is_terminal() => {
                since.after(ran()).min(self.time)
            }
            _ => report.since.min(self.time),
        }
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Applied {
        let task = self.state.task(id).cloned().ok_or_else(|| not_found("task", id))?;
        if let (true, Some(node)) = (task.may_run(), task.node) {
            let message = format!("task {id} may still run on node {node}");
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        }
        self.touch_files_of_task(&task);
        self.state.remove_task(id);
        self.touched.task(&task);
        Ok(())
    }

    fn write_task(&mut self, task: Task) {
        self.touched.task(&task);
        if task.status.state.is_terminal() {
            self.touch_files_of_task(&task);
        }
        self.state.put_task(Arc::new(Task { version: self.version, ..task }));
    }

    /// Whatever the view was that the planner saw: a slot never gets a second process. Since then its former task may
    /// have been given a node, or the node of that task may have come back.
    fn check_may_begin(&self, task: &Task, desired: DesiredState) -> Applied {
        if desired != DesiredState::Running {
            return Ok(());
        }
        self.check_not_done(task)?;
        // With start-first a task that is still wanted goes on until its successor runs; so does one that is moved.
        let service = self.state.service(task.service);
        let start_first = service.is_some_and(|service| {
            [service.spec.update.order, service.spec.rollback.order].contains(&Order::StartFirst)
        });
        let moving = service.and_then(|service| service.rebalance.as_ref()?.moving);
        let moves = |other: &Task| moving == Some(Move { from: other.id, to: task.id });
        let beside = |other: &&Arc<Task>| {
            other.id != task.id
                && other.may_run()
                && !((start_first || other.run != task.run || moves(other)) && other.is_live())
                && other.node.is_some_and(|node| !self.state.is_node_lost(node))
        };
        match self.state.tasks_of_slot(task.service, task.slot).find(beside) {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "task {} cannot begin: task {} of its slot {} may still run",
                    task.id, other.id, task.slot
                );
                Err(Refusal::new(RefusalKind::Stale, message))
            }
        }
    }

    /// What is done is not begun again: since the planner saw it, a node that was lost may have told that it completed.
    fn check_not_done(&self, task: &Task) -> Applied {
        let completed = |other: &&Arc<Task>| {
            other.run == task.run
                && other.status.state == TaskState::Complete
                && other.desired < DesiredState::Remove
        };
        let done = self.state.tasks_of_slot(task.service, task.slot).filter(|_| task.run > 0).find(completed);
        done.map_or(Ok(()), |done| {
            let message = format!(
                "task {} cannot begin: slot {} of run {} is done by task {}",
                task.id, task.slot, task.run, done.id
            );
            Err(Refusal::new(RefusalKind::Stale, message))
        })
    }

    /// Whatever the view was that the scheduler saw: a node never gets more tasks of a service than it may have.
    fn check_number(&self, task: &Task, node: &Node) -> Applied {
        let most = self
            .state
            .service(task.service)
            .map_or(0, |service| service.spec.task.placement.max_replicas_per_node);
        if most == 0 {
            return Ok(());
        }
        let held = self.state.tasks_of_service_on_node(task.service, node.id);
        let count = held.filter(|held| held.is_live()).count() as u64;
        if count < most {
            return Ok(());
        }
        let message = format!("node {} has {count} tasks of service {} already", node.id, task.service);
        Err(Refusal::new(RefusalKind::Stale, message))
    }

    /// Whatever the view was that the scheduler saw: no task comes to a node with one that it keeps away from, or that
    /// keeps away from it.
    fn check_neighbours(&self, task: &Task, node: &Node) -> Applied {
        let Some(service) = self.state.service(task.service) else { return Ok(()) };
        if !away::keeps_away(&self.state, service) {
            return Ok(());
        }
        let unwanted = |held: &&Arc<Task>| {
            held.may_run()
                && self.state.service(held.service).is_some_and(|other| away::is_apart(service, other))
        };
        match self.state.tasks_on_node(node.id).find(unwanted) {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "task {} cannot be on node {}: its service and that of task {} there keep apart",
                    task.id, node.id, other.id
                );
                Err(Refusal::new(RefusalKind::Stale, message))
            }
        }
    }

    /// Whatever the view was that the scheduler saw: a node is never given more than it has, and what a task has for
    /// itself is not given twice.
    fn check_room(&self, task: &Task, node: &Node, generic: &BTreeMap<String, Vec<String>>) -> Applied {
        let Some(spec) = self.state.task_spec(task.service, task.spec_version) else { return Ok(()) };
        let usage = self.state.usage(node.id);
        let free = node.description.resources.minus(usage.reserved);
        let short = |what: &str| {
            let message = format!("node {} has not enough {what} left for task {}", node.id, task.id);
            Err(Refusal::new(RefusalKind::Stale, message))
        };
        if spec.reservations.cpu > free.cpu {
            return short("cpu");
        }
        if spec.reservations.memory > free.memory {
            return short("memory");
        }
        if let Some(kind) = spec.generic.iter().find(|(kind, count)| usage.generic_left(node, kind) < **count)
        {
            return short(kind.0);
        }
        if !usage.permits(node, spec, generic) {
            let message =
                format!("node {}: {generic:?} is not what task {} can have there", node.id, task.id);
            return Err(Refusal::new(RefusalKind::Stale, message));
        }
        match usage.taken_port(&spec.placement.host_ports) {
            None => Ok(()),
            Some(port) => {
                let message = format!("port {port} of node {} is taken: not for task {}", node.id, task.id);
                Err(Refusal::new(RefusalKind::Stale, message))
            }
        }
    }
}

/// Agents say how a task fares once they have it; that it is orphaned is for the managers to say.
fn is_for_agents(state: TaskState) -> bool {
    state > TaskState::Assigned && state != TaskState::Orphaned
}
