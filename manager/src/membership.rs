//! Raft membership: managers ask for their place themselves, and lose it when their node is asked to be a worker.
//!
//! The order is what keeps a quorum: a joining manager gets an id, runs, catches up as a learner, and only then counts as a voter.
//! A demoted one first leaves Raft, then its certificate says worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::change::Change;
use coracle_manager_core::state::View;
use coracle_model::cluster::Cluster;
use coracle_model::id::NodeId;
use coracle_model::node::{ManagerMember, Node};
use coracle_model::role::Role;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::membership_server::Membership;
use coracle_rpc::connect::parse_address;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::dispatcher::Dispatcher;
use crate::rpc::book::AddressBook;
use crate::rpc::caller_node;
use crate::store::{Store, TouchedReceiver, Wake, Write, raft_error};

/// How long a new manager may take to catch up before others get their turn; it asks again.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How long a change of membership or of leadership may take.
const CHANGE: Duration = Duration::from_secs(10);
/// How recently the Raft of a manager must have answered to count on it: several heartbeats.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Wait before a membership change that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The service, and the checks that demotion and removal share.
#[derive(Debug, Clone)]
pub struct MembershipApi {
    store: Store,
    dispatcher: Arc<Dispatcher>,
    /// Membership changes are made one after another, also those of the role loop: one that gives a vote must not have looked
    /// at a node before, and act after, another took it out, or Raft has a voter that no node stands for.
    turn: Arc<Mutex<()>>,
    /// Where managers are that have moved.
    book: AddressBook,
}

impl MembershipApi {
    /// The service over this state.
    #[must_use]
    pub fn new(store: Store, dispatcher: Arc<Dispatcher>, book: AddressBook) -> Self {
        Self { store, dispatcher, turn: Arc::default(), book }
    }

    /// Notes where a manager is now; tells where all are.
    fn announced(
        &self,
        node: NodeId,
        raft_id: u64,
        address: &str,
    ) -> Result<Vec<v1::ManagerAddress>, ApiError> {
        parse_address(address).map_err(|error| ApiError::new(Reason::Invalid, error.to_string()))?;
        let view = self.store.view();
        if view
            .node(node)
            .and_then(|known| known.manager.as_ref())
            .is_none_or(|known| known.raft_id != raft_id)
        {
            let message =
                format!("raft id {raft_id} is not that of node {node}, as far as this manager knows");
            return Err(ApiError::new(Reason::Forbidden, message));
        }
        let status = self.store.raft().status();
        let members = status.borrow().members.clone();
        if let Some(known) = members.address(raft_id) {
            if known != address && self.book.present(raft_id, known) != address {
                info!(%node, raft_id, known, address, "a manager has moved");
            }
            self.book.note(raft_id, known, address);
        }
        let all = members.voters.iter().chain(&members.learners);
        let place = |(raft_id, address): (&u64, &String)| v1::ManagerAddress {
            raft_id: *raft_id,
            address: self.book.present(*raft_id, address),
        };
        Ok(all.map(place).collect())
    }

    /// Writes down where this manager itself is, while it leads; nothing if that is known.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn move_self(&self, node: NodeId, address: &str) -> Result<(), ApiError> {
        let raft = self.store.raft();
        let status = raft.status().borrow().clone();
        let view = self.store.view();
        let written = view.node(node).and_then(|known| known.manager.clone());
        let Some(written) = written.filter(|written| written.raft_id == status.raft_id) else {
            return Err(ApiError::new(Reason::Unavailable, "this manager's place is not written down yet"));
        };
        if written.address == address && status.members.address(status.raft_id) == Some(address) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        raft.set_address(status.raft_id, address, CHANGE).await.map_err(raft_error)?;
        let member = Some(ManagerMember { raft_id: status.raft_id, address: address.to_owned() });
        let change = Change::SetManagerMember { node, member };
        self.store.propose(Write::internal("manager moved", vec![change])).await?;
        info!(%node, address, "this manager has moved");
        Ok(())
    }

    /// Gives the node a Raft id: always one that nobody had. Who asks for one has nothing of Raft any more, so that the id that it
    /// may have had votes no more: it leaves, or it would count towards majorities for ever.
    async fn reserve_id(&self, node: NodeId, address: &str) -> Result<u64, ApiError> {
        parse_address(address).map_err(|error| ApiError::new(Reason::Invalid, error.to_string()))?;
        let _turn = self.turn.lock().await;
        let view = self.store.view();
        let known = view.node(node).ok_or_else(|| not_found(node))?;
        if known.spec.role != Role::Manager {
            return Err(ApiError::new(Reason::Forbidden, format!("node {node} is not to be a manager")));
        }
        if let Some(former) = &known.manager {
            let raft = self.store.raft();
            if raft.status().borrow().members.address(former.raft_id).is_some() {
                warn!(%node, raft_id = former.raft_id, "a manager has lost what it had of raft; its place is given up for another");
                raft.remove(former.raft_id, CHANGE).await.map_err(raft_error)?;
            }
        }
        let cluster = view.cluster().ok_or_else(no_cluster)?;
        let raft_id = cluster.next_raft_id;
        let next = Cluster { next_raft_id: raft_id + 1, ..Cluster::clone(cluster) };
        // The place is recorded before anybody takes it: whoever is in Raft has a node that says so, whatever dies when.
        let member = Some(ManagerMember { raft_id, address: address.to_owned() });
        let changes = vec![
            Change::UpdateCluster { expected: next.version, cluster: next },
            Change::SetManagerMember { node, member },
        ];
        self.store.propose(Write::internal("place for a new manager", changes)).await?;
        Ok(raft_id)
    }

    async fn make_voter(&self, node: NodeId, raft_id: u64, address: &str) -> Result<u64, ApiError> {
        parse_address(address).map_err(|error| ApiError::new(Reason::Invalid, error.to_string()))?;
        let _turn = self.turn.lock().await;
        let view = self.store.view();
        let known = view.node(node).ok_or_else(|| not_found(node))?;
        if known.spec.role != Role::Manager {
            return Err(ApiError::new(Reason::Forbidden, format!("node {node} is not to be a manager")));
        }
        if known.manager.as_ref().is_none_or(|member| member.raft_id != raft_id) {
            let message = format!("raft id {raft_id} of node {node} is retired");
            return Err(ApiError::new(Reason::Stale, message).with_hint("ask for a new one"));
        }
        let raft = self.store.raft();
        let status = raft.status().borrow().clone();
        let member = ManagerMember { raft_id, address: address.to_owned() };
        let votes = status.members.voters.get(&raft_id).is_some_and(|at| at == address);
        // Managers make sure of their places now and then.
        if votes && status.members.changing_to.is_none() && known.manager.as_ref() == Some(&member) {
            return Ok(status.applied.unwrap_or_default());
        }
        let moved = raft.status().borrow().members.address(raft_id).is_some_and(|known| known != address);
        if moved {
            raft.set_address(raft_id, address, CHANGE).await.map_err(raft_error)?;
        }
        raft.add_learner(raft_id, address, CATCH_UP).await.map_err(raft_error)?;
        let member = Some(ManagerMember { raft_id, address: address.to_owned() });
        let change = Change::SetManagerMember { node, member };
        self.store.propose(Write::internal("new manager", vec![change])).await?;
        raft.promote(raft_id, CHANGE).await.map_err(raft_error)?;
        info!(%node, raft_id, address, "manager has a vote");
        Ok(raft.status().borrow().applied.unwrap_or_default())
    }

    /// Takes a manager out of Raft.
    ///
    /// # Errors
    /// If the rest would have no quorum, or if this manager is the leader and is to go itself: it hands over first.
    async fn remove(&self, node: NodeId, force: bool) -> Result<(), ApiError> {
        let _turn = self.turn.lock().await;
        let view = self.store.view();
        let Some(member) = view.node(node).and_then(|known| known.manager.clone()) else { return Ok(()) };
        if !force {
            keeps_quorum(&view, &self.dispatcher, node)?;
        }
        let raft = self.store.raft();
        let status = raft.status().borrow().clone();
        if status.raft_id == member.raft_id {
            raft.transfer_leader(CHANGE).await.map_err(raft_error)?;
            return Err(ApiError::new(
                Reason::NotLeader,
                "leadership was handed over; the new leader goes on".to_owned(),
            ));
        }
        if !force {
            stays_writable(status.members.voters.keys(), &raft.answering(ANSWERED_WITHIN), member.raft_id)?;
        }
        raft.remove(member.raft_id, CHANGE).await.map_err(raft_error)?;
        let change = Change::SetManagerMember { node, member: None };
        self.store.propose(Write::internal("manager left raft", vec![change])).await?;
        info!(%node, raft_id = member.raft_id, "manager left raft");
        Ok(())
    }
}

fn no_cluster() -> ApiError {
    ApiError::new(Reason::Unavailable, "this manager has no cluster yet".to_owned())
}

fn not_found(node: NodeId) -> ApiError {
    ApiError::new(Reason::NotFound, format!("no node {node}"))
}

/// Checks that the managers that stay when `leaving` goes have a majority among them that can be reached.
///
/// # Errors
/// With the count, if they have not.
pub fn keeps_quorum(view: &View, dispatcher: &Dispatcher, leaving: NodeId) -> Result<(), ApiError> {
    let voters = dispatcher.store().raft().status().borrow().members.voters.clone();
    let has_vote = |node: &&Arc<Node>| node.manager.as_ref().is_some_and(|m| voters.contains_key(&m.raft_id));
    let managers: Vec<&Arc<Node>> = view.nodes().filter(has_vote).collect();
    if managers.iter().all(|node| node.id != leaving) {
        return Ok(());
    }
    // One that is asked to go already does not stay.
    let stays = |node: &&&Arc<Node>| node.id != leaving && node.spec.role == Role::Manager;
    let staying: Vec<_> = managers.iter().filter(stays).collect();
    if staying.is_empty() {
        return Err(ApiError::new(
            Reason::Forbidden,
            "the last manager cannot leave: the cluster would end".to_owned(),
        )
        .with_hint("promote another node first with `coracle node promote`"));
    }
    let answering = dispatcher.store().raft().answering(ANSWERED_WITHIN);
    let answers = |node: &&&&Arc<Node>| node.manager.as_ref().is_some_and(|m| answering.contains(&m.raft_id));
    let reachable = staying.iter().filter(answers).count();
    let majority = staying.len() / 2 + 1;
    if reachable >= majority {
        return Ok(());
    }
    let message = format!(
        "quorum would be lost: of the {} managers that stay, {reachable} can be reached, and {majority} are needed",
        staying.len()
    );
    Err(ApiError::new(Reason::Forbidden, message)
        .with_hint("bring the managers that are down back first, or promote other nodes"))
}

/// Checks that Raft goes on without one of its voters. All others count, also those that are to go next: until then nothing is
/// written without a majority of them.
fn stays_writable<'a>(
    voters: impl Iterator<Item = &'a u64>,
    answering: &BTreeSet<u64>,
    leaving: u64,
) -> Result<(), ApiError> {
    let rest: Vec<&u64> = voters.filter(|voter| **voter != leaving).collect();
    let (majority, reachable) =
        (rest.len() / 2 + 1, rest.iter().filter(|voter| answering.contains(voter)).count());
    if reachable >= majority {
        return Ok(());
    }
    let message = format!(
        "quorum would be lost: of the {} managers that would be left for now, {reachable} can be reached, and {majority} \
         are needed",
        rest.len()
    );
    Err(ApiError::new(Reason::Forbidden, message).with_hint("bring the managers that are down back first"))
}

/// Takes nodes out of Raft that are asked to be workers, until `stop`.
pub async fn run_role_loop(api: MembershipApi, term: u64, stop: CancellationToken) {
    let store = api.store.clone();
    let mut feed = store.watch();
    let mut told: BTreeMap<NodeId, String> = BTreeMap::new();
    loop {
        let mut failed = false;
        for node in demoted(&store.view(), &store.raft().answering(ANSWERED_WITHIN)) {
            let removed = tokio::select! {
                () = stop.cancelled() => return,
                removed = api.remove(node, false) => removed,
            };
            if let Err(error) = removed {
                failed = true;
                let why = error.to_string();
                // It is tried often; said once.
                if told.get(&node) != Some(&why) {
                    warn!(%node, term, %error, "a demoted manager is still in raft; trying again");
                    told.insert(node, why);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            goes_on = nodes_change(&mut feed) => if !goes_on { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Waits until what nodes are, or are to be, was touched; says whether there will be more.
async fn nodes_change(feed: &mut TouchedReceiver) -> bool {
    loop {
        match feed.next().await {
            Wake::Touched(touched) if !touched.membership => {}
            Wake::Touched(_) | Wake::Resync => return true,
            Wake::Closed => return false,
        }
    }
}

/// Who is to go: first those that do not answer, because what is left counts.
fn demoted(view: &View, answering: &BTreeSet<u64>) -> Vec<NodeId> {
    let place = |node: &Arc<Node>| {
        let member = node.manager.as_ref().filter(|_| node.spec.role != Role::Manager)?;
        Some((answering.contains(&member.raft_id), node.id))
    };
    let mut places: Vec<(bool, NodeId)> = view.nodes().filter_map(place).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, node)| node).collect()
}

#[tonic::async_trait]
impl Membership for MembershipApi {
    async fn join(
        &self,
        request: Request<v1::MembershipJoinRequest>,
    ) -> Result<Response<v1::MembershipJoinResponse>, Status> {
        let node = caller_node(&request, "only managers call this")?;
        let v1::MembershipJoinRequest { raft_id, address } = request.into_inner();
        let index = self.make_voter(node, raft_id, &address).await?;
        Ok(Response::new(v1::MembershipJoinResponse { index }))
    }

    async fn announce(
        &self,
        request: Request<v1::MembershipAnnounceRequest>,
    ) -> Result<Response<v1::MembershipAnnounceResponse>, Status> {
        let node = caller_node(&request, "only managers call this")?;
        let v1::MembershipAnnounceRequest { raft_id, address } = request.into_inner();
        let managers = self.announced(node, raft_id, &address)?;
        Ok(Response::new(v1::MembershipAnnounceResponse { managers }))
    }

    async fn reserve(
        &self,
        request: Request<v1::MembershipReserveRequest>,
    ) -> Result<Response<v1::MembershipReserveResponse>, Status> {
        let node = caller_node(&request, "only managers call this")?;
        let raft_id = self.reserve_id(node, &request.into_inner().address).await?;
        Ok(Response::new(v1::MembershipReserveResponse { raft_id }))
    }

    async fn leave(
        &self,
        request: Request<v1::MembershipLeaveRequest>,
    ) -> Result<Response<v1::MembershipLeaveResponse>, Status> {
        let node = caller_node(&request, "only managers call this")?;
        self.remove(node, request.into_inner().force).await?;
        Ok(Response::new(v1::MembershipLeaveResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_raft_while_it_would_stand_still_without_him() {
        let may = |voters: &[u64], answering: &[u64], leaving: u64| {
            stays_writable(voters.iter(), &answering.iter().copied().collect(), leaving).is_ok()
        };
        assert!(may(&[1, 2, 3], &[1, 2, 3], 3));
        assert!(may(&[1, 2, 3], &[1, 3], 2), "the one that is down goes first");
        assert!(!may(&[1, 2, 3], &[1, 3], 3), "one of two would answer");
        assert!(may(&[1, 3], &[1, 3], 3));
        assert!(!may(&[1, 2, 3, 4, 5], &[1, 2, 5], 5));
    }
}
