//! Changes of nodes.

use std::sync::Arc;

use coracle_model::id::{NodeId, TaskId};
use coracle_model::node::{ManagerMember, Node, NodeDescription, NodeSpec, NodeState};
use coracle_model::task::{DesiredState, TaskState, TaskStatus};
use coracle_model::version::Version;

use super::{Applied, Writing, check_version, not_found};
use crate::outcome::{Refusal, RefusalKind};

impl Writing {
    pub(super) fn create_node(&mut self, node: &Node) -> Applied {
        if self.state.node(node.id).is_some() {
            return Err(Refusal::new(RefusalKind::Exists, format!("node {} exists already", node.id)));
        }
        self.check_raft_id(node.id, node.manager.as_ref())?;
        let mut node = Node { created_at: self.time, ..node.clone() };
        node.status.since = self.time;
        self.write_node(node);
        Ok(())
    }

    pub(super) fn update_node_spec(&mut self, id: NodeId, expected: Version, spec: &NodeSpec) -> Applied {
        let node = self.present_node(id)?;
        check_version("node", id, node.version, expected)?;
        self.write_node(Node { spec: spec.clone(), ..(*node).clone() });
        Ok(())
    }

    pub(super) fn describe_node(
        &mut self,
        id: NodeId,
        description: &NodeDescription,
        address: &str,
    ) -> Applied {
        let node = self.present_node(id)?;
        if node.description == *description && node.status.address == address {
            return Ok(());
        }
        let mut node = Node { description: description.clone(), ..(*node).clone() };
        address.clone_into(&mut node.status.address);
        self.write_node(node);
        Ok(())
    }

    pub(super) fn set_node_status(&mut self, id: NodeId, state: NodeState, message: &str) -> Applied {
        let node = self.present_node(id)?;
        if node.status.state == state && node.status.message == message {
            return Ok(());
        }
        // Its successors run elsewhere since it was lost. Who judged it ready may not have known that it was given up.
        if node.status.state == NodeState::Down && state == NodeState::Ready && self.is_stopping(id) {
            return Ok(());
        }
        let mut node = (*node).clone();
        if node.status.state != state {
            node.status.since = self.time;
        }
        node.status.state = state;
        message.clone_into(&mut node.status.message);
        self.write_node(node);
        Ok(())
    }

    pub(super) fn set_manager_member(&mut self, id: NodeId, member: Option<&ManagerMember>) -> Applied {
        let node = self.present_node(id)?;
        if node.manager.as_ref() == member {
            return Ok(());
        }
        self.check_raft_id(id, member)?;
        // The list of managers is in every session.
        self.touched.cluster = true;
        if member.is_none() {
            self.state.put_departed(id, self.time);
        }
        self.write_node(Node { manager: member.cloned(), ..(*node).clone() });
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId, expected: Version) -> Applied {
        let node = self.present_node(id)?;
        check_version("node", id, node.version, expected)?;
        if let Some(member) = &node.manager {
            let message = format!("node {id} is a manager (raft id {}); demote it first", member.raft_id);
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        }
        let running: Vec<TaskId> =
            self.state.tasks_on_node(id).filter(|task| task.may_run()).map(|task| task.id).collect();
        for task in running {
            let status = TaskStatus {
                state: TaskState::Orphaned,
                since: self.time,
                message: "node was removed from the cluster".to_owned(),
                ..TaskStatus::default()
            };
            self.report_task(task, None, &status)?;
        }
        self.state.remove_node(id);
        self.state.put_departed(id, self.time);
        self.touched.node(id);
        self.touched.pending = true;
        Ok(())
    }

    /// Whether a task that was given up may still run on the node.
    fn is_stopping(&self, id: NodeId) -> bool {
        self.state.tasks_on_node(id).any(|task| task.may_run() && task.desired > DesiredState::Running)
    }

    fn present_node(&self, id: NodeId) -> Result<Arc<Node>, Refusal> {
        self.state.node(id).cloned().ok_or_else(|| not_found("node", id))
    }

    fn write_node(&mut self, node: Node) {
        self.touched.node(node.id);
        self.touched.membership = true;
        self.touched.pending = true;
        self.state.put_node(Arc::new(Node { version: self.version, ..node }));
    }

    fn check_raft_id(&self, id: NodeId, member: Option<&ManagerMember>) -> Applied {
        let Some(member) = member else { return Ok(()) };
        let holds =
            |node: &&Arc<Node>| node.manager.as_ref().is_some_and(|held| held.raft_id == member.raft_id);
        match self.state.nodes().filter(|node| node.id != id).find(holds) {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "raft id {} belongs to node {}; ids are never given twice",
                    member.raft_id, other.id
                );
                Err(Refusal::new(RefusalKind::Exists, message))
            }
        }
    }
}
