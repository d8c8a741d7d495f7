//! Nodes.

use std::sync::Arc;

use coracle_manager_core::change::Change;
use coracle_model::id::NodeId;
use coracle_model::node::{Availability, Node, NodeSpec, NodeState};
use coracle_model::role::Role;
use coracle_model::validate;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::nodes_server::Nodes;
use coracle_rpc::caller::PassedOnBy;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::{actor, resolve};
use crate::dispatcher::Dispatcher;
use crate::membership::keeps_quorum;
use crate::raft::RaftStatus;
use crate::store::{Decision, Store, Write};

/// The API over nodes.
#[derive(Debug, Clone)]
pub struct NodesApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    own: NodeId,
    /// One update at a time: two demotions must not both count on the other's node.
    turn: Arc<Mutex<()>>,
}

impl NodesApi {
    /// The API over this state, on this node.
    #[must_use]
    pub fn new(store: Store, dispatcher: Arc<Dispatcher>, own: NodeId) -> Self {
        Self { store, dispatcher, own, turn: Arc::default() }
    }

    fn item(&self, node: &Node, raft: &RaftStatus, asked: NodeId) -> v1::NodeListItem {
        let raft_id = node.manager.as_ref().map(|manager| manager.raft_id);
        let connected = self.dispatcher.term().is_some_and(|term| term.liveness.is_connected(node.id));
        v1::NodeListItem {
            node: Some(node.into()),
            leader: raft_id.is_some() && raft_id == raft.leader.as_ref().map(|leader| leader.raft_id),
            reachable: node.id == self.own || connected,
            self_: node.id == asked,
            voter: raft_id.is_some_and(|id| raft.members.voters.contains_key(&id)),
        }
    }

    /// The node whose socket the operator used: the one that passed the call on, or this one.
    fn asked<T>(&self, request: &Request<T>) -> NodeId {
        request.extensions().get::<PassedOnBy>().map_or(self.own, |by| by.0)
    }
}

#[tonic::async_trait]
impl Nodes for NodesApi {
    async fn list(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let asked = self.asked(&request);
        let view = self.store.barrier().await?;
        let raft = self.store.raft().status().borrow().clone();
        let nodes = view.nodes().map(|node| self.item(node, &raft, asked)).collect();
        let term = self.dispatcher.term();
        let notice = term.and_then(|term| term.liveness.notice(&view)).unwrap_or_default();
        Ok(Response::new(v1::ListNodesResponse { nodes, index: view.index(), notice }))
    }

    async fn get(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        let asked = self.asked(&request);
        let view = self.store.barrier().await?;
        let node = resolve::node_or_self(&view, &request.get_ref().node, asked)?;
        let raft = self.store.raft().status().borrow().clone();
        let (node, index) = (Some(self.item(&node, &raft, asked)), view.index());
        Ok(Response::new(v1::GetNodeResponse { node, index }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNodeRequest>,
    ) -> Result<Response<v1::UpdateNodeResponse>, Status> {
        let (actor, asked) = (actor(&request), self.asked(&request));
        let request = request.into_inner();
        let _turn = self.turn.lock().await;
        let decided = self.store.decide(|view| {
            let node = resolve::node_or_self(view, &request.node, asked)?;
            let spec = changed(&node, &request)?;
            if spec.role == Role::Worker && node.spec.role == Role::Manager {
                keeps_quorum(view, &self.dispatcher, node.id)?;
            }
            if spec == node.spec {
                return Ok(Decision::Stands(node.version, node));
            }
            let change = Change::UpdateNodeSpec { node: node.id, expected: node.version, spec };
            let write = Write {
                changes: vec![change],
                actor: actor.clone(),
                reason: "node update",
                idempotency: None,
                term: 0,
            };
            Ok(Decision::Write(write, node))
        });
        let (version, node) = decided.await?;
        let version = version.index();
        let written = self.store.view().node(node.id).map(|node| (&**node).into());
        Ok(Response::new(v1::UpdateNodeResponse { node: written, version }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let (actor, asked) = (actor(&request), self.asked(&request));
        let request = request.into_inner();
        let decided = self.store.decide(|view| {
            let node = resolve::node_or_self(view, &request.node, asked)?;
            removable(&node, request.force)?;
            let write = Write {
                changes: vec![Change::RemoveNode { node: node.id, expected: node.version }],
                actor: actor.clone(),
                reason: "node rm",
                idempotency: None,
                term: 0,
            };
            Ok(Decision::Write(write, node.id))
        });
        let (version, node) = decided.await?;
        if let Some(connected) = self.dispatcher.term().and_then(|term| term.registry.get(node)) {
            connected.close.cancel();
        }
        let version = version.index();
        Ok(Response::new(v1::RemoveNodeResponse { id: node.to_string(), version }))
    }
}

/// The specification that a request makes of a node's.
fn changed(node: &Node, request: &v1::UpdateNodeRequest) -> Result<NodeSpec, ApiError> {
    let host = &node.description.hostname;
    let mut spec = node.spec.clone();
    if let Some(availability) = request.availability {
        spec.availability = parse_availability(availability)?;
    }
    if let Some(role) = request.role {
        spec.role = parse_role(role)?;
    }
    for key in &request.labels_removed {
        if spec.labels.remove(key).is_none() {
            let message = format!("label-rm: invalid value {key:?}: node {host} has no such label");
            let labels: Vec<&str> = node.spec.labels.keys().map(String::as_str).collect();
            let hint = match labels.as_slice() {
                [] => "it has no labels of the cluster; engine labels are set on the node itself".to_owned(),
                labels => format!("it has {}", labels.join(", ")),
            };
            return Err(ApiError::new(Reason::Invalid, message).with_hint(hint));
        }
    }
    spec.labels.extend(request.labels_set.clone());
    validate::labels("label", &spec.labels)?;
    if spec.role == Role::Manager && node.spec.role == Role::Worker && node.manager.is_some() {
        let message = format!("node {host} is still leaving raft");
        return Err(ApiError::new(Reason::Unavailable, message).with_hint("try again in a moment"));
    }
    Ok(spec)
}

/// Whether a node may be removed from the cluster.
fn removable(node: &Node, force: bool) -> Result<(), ApiError> {
    let host = &node.description.hostname;
    if node.manager.is_some() && node.spec.role == Role::Worker {
        let message = format!("node {host} was demoted and is still leaving raft");
        return Err(ApiError::new(Reason::Unavailable, message).with_hint("try again in a moment"));
    }
    if node.spec.role == Role::Manager {
        let message = format!("node {host} is a manager");
        let hint = format!("demote it first with `coracle node demote {}`", node.id);
        return Err(ApiError::new(Reason::Forbidden, message).with_hint(hint));
    }
    if node.status.state == NodeState::Ready && !force {
        let message = format!("node {host} is ready; only a node that is down can be removed");
        let hint = "stop it or let it leave with `coracle swarm leave`, or use --force";
        return Err(ApiError::new(Reason::Forbidden, message).with_hint(hint));
    }
    Ok(())
}

fn parse_availability(number: i32) -> Result<Availability, ApiError> {
    v1::Availability::try_from(number).map(Availability::from).map_err(|_| {
        ApiError::new(
            Reason::Invalid,
            format!("availability: invalid value {number}: use active, pause or drain"),
        )
    })
}

fn parse_role(number: i32) -> Result<Role, ApiError> {
    v1::NodeRole::try_from(number).ok().and_then(|role| Role::try_from(role).ok()).ok_or_else(|| {
        ApiError::new(Reason::Invalid, format!("role: invalid value {number}: use worker or manager"))
    })
}

#[cfg(test)]
mod tests {
    use coracle_model::node::ManagerMember;

    use super::super::world::{node, told};
    use super::*;

    #[test]
    fn every_refusal_says_which_node_and_what_to_do() {
        let request = |labels: &[&str], role: Option<v1::NodeRole>| v1::UpdateNodeRequest {
            labels_removed: labels.iter().map(|label| (*label).to_owned()).collect(),
            role: role.map(Into::into),
            ..Default::default()
        };
        let mut worker = node(7, "w1");
        assert_eq!(
            told(changed(&worker, &request(&["colour"], None))),
            "label-rm: invalid value \"colour\": node w1 has no such label\nhint: it has zone"
        );
        assert_eq!(
            told(changed(&worker, &request(&["zone", "zone"], None))),
            "label-rm: invalid value \"zone\": node w1 has no such label\nhint: it has zone"
        );
        worker.spec.labels.clear();
        assert_eq!(
            told(changed(&worker, &request(&["zone"], None))),
            "label-rm: invalid value \"zone\": node w1 has no such label\nhint: it has no labels of the cluster; engine labels \
             are set on the node itself"
        );
        worker.manager = Some(ManagerMember { raft_id: 1, address: String::new() });
        assert_eq!(
            told(changed(&worker, &request(&[], Some(v1::NodeRole::Manager)))),
            "node w1 is still leaving raft\nhint: try again in a moment"
        );
        assert_eq!(
            told(removable(&worker, true)),
            "node w1 was demoted and is still leaving raft\nhint: try again in a moment"
        );
        worker.spec.role = Role::Manager;
        assert_eq!(
            told(removable(&worker, true)),
            format!("node w1 is a manager\nhint: demote it first with `coracle node demote {}`", worker.id)
        );
        worker.spec.role = Role::Worker;
        worker.manager = None;
        worker.status.state = NodeState::Ready;
        assert_eq!(
            told(removable(&worker, false)),
            "node w1 is ready; only a node that is down can be removed\nhint: stop it or let it leave with `coracle swarm leave`, \
             or use --force"
        );
        assert_eq!(told(removable(&worker, true)), "fine");
        assert_eq!(told(parse_availability(9)), "availability: invalid value 9: use active, pause or drain");
        assert_eq!(told(parse_role(9)), "role: invalid value 9: use worker or manager");
    }
}
