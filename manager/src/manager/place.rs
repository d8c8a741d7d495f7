//! How a manager gets its place in Raft, keeps it when it moves, and finds managers that have moved.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::membership_client::MembershipClient;
use tracing::{debug, info, warn};

use super::Manager;
use crate::raft::RaftStatus;
use crate::rpc::peers::Peers;

/// Wait before asking another manager for a place again.
const JOIN_RETRY: Duration = Duration::from_millis(500);
/// How often a manager makes sure that it still has its place: one that was demoted and promoted again in quick succession keeps
/// its certificate and hears nothing of having been taken out.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Manager {
    /// Asks for a place in Raft until this manager has a vote, and again whenever it has moved. Its own log does not tell: it may have
    /// been taken out while it was down, and be asked back under another id.
    pub(super) async fn take_place(&self) {
        let mut address = self.address.clone();
        loop {
            let own = address.borrow_and_update().clone();
            tokio::select! {
                () = self.take_place_at(&own) => {}
                changed = address.changed() => if changed.is_err() { return } else { continue },
            }
            loop {
                tokio::select! {
                    changed = address.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(LOOK_AGAIN) => self.look_again(&own).await,
                }
            }
        }
    }

    /// Asks for the place that this manager has; only what is wrong with it is acted on.
    async fn look_again(&self, own: &str) {
        let status = self.status();
        if status.is_leader() {
            return;
        }
        self.ask_all_for_place(&status, own, true).await;
    }

    async fn take_place_at(&self, own: &str) {
        loop {
            let status = self.status();
            let alone = status.members.voters.len() == 1 && status.members.voters.contains_key(&self.raft_id);
            if alone || status.is_leader() {
                match self.leading.membership.move_self(self.own, own).await {
                    Ok(()) => return,
                    Err(error) => {
                        info!(%error, address = own, "this manager's address is not written down yet")
                    }
                }
            } else if self.ask_all_for_place(&status, own, false).await {
                return;
            }
            tokio::time::sleep(JOIN_RETRY).await;
        }
    }

    /// Whether one of the others gave it, or said that it never will. With `again` it is no news when nobody does.
    async fn ask_all_for_place(&self, status: &RaftStatus, own: &str, again: bool) -> bool {
        let view = self.store.view();
        let book = self.peers.book();
        let members = status.members.voters.iter().chain(&status.members.learners);
        let mut known: Vec<String> = members.map(|(id, address)| book.present(*id, address)).collect();
        known.extend(crate::dispatcher::session::manager_addresses(&view));
        known.extend(self.managers.iter().cloned());
        let mut asked = BTreeSet::new();
        for address in known.iter().filter(|address| address.as_str() != own) {
            if !asked.insert(address) {
                continue;
            }
            // First, so that whoever leads or is to vote finds this manager where it is.
            if let Err(error) = self.announce(status, address, own).await {
                debug!(manager = address, %error, "not told of this manager's address");
            }
            match self.ask_for_place(address, own).await {
                Ok(()) => return true,
                Err(error) if error.reason == Reason::Stale => {
                    warn!(
                        raft_id = self.raft_id,
                        "this manager's raft id is retired; beginning anew with another"
                    );
                    self.retired.notify_one();
                    return true;
                }
                Err(error) if again => debug!(manager = address, %error, "no word on this manager's place"),
                Err(error) => warn!(manager = address, %error, "no place in raft yet; asking again"),
            }
        }
        false
    }

    /// Tells one manager where this one is, and learns of it where the others are.
    async fn announce(&self, status: &RaftStatus, address: &str, own: &str) -> Result<(), ApiError> {
        let mut client = MembershipClient::new(self.peers.kept(address)?);
        let request = v1::MembershipAnnounceRequest { raft_id: self.raft_id, address: own.to_owned() };
        let told = client.announce(request).await.map_err(|status| ApiError::from_status(&status))?;
        for v1::ManagerAddress { raft_id, address } in told.into_inner().managers {
            if let Some(known) = status.members.address(raft_id).filter(|_| raft_id != self.raft_id) {
                self.peers.book().note(raft_id, known, &address);
            }
        }
        Ok(())
    }

    async fn ask_for_place(&self, address: &str, own: &str) -> Result<(), ApiError> {
        let mut client = MembershipClient::new(self.peers.kept(address)?);
        let request = v1::MembershipJoinRequest { raft_id: self.raft_id, address: own.to_owned() };
        client.join(request).await.map_err(|status| ApiError::from_status(&status))?;
        Ok(())
    }
}

/// Asks the managers, one after the other, for a Raft id for this node.
///
/// # Errors
/// The last one's, if none gives one.
pub(super) async fn reserve(peers: &Peers, managers: &[String], address: &str) -> Result<u64, ApiError> {
    let mut last = ApiError::new(Reason::Unavailable, "no manager is known to ask for a raft id");
    for manager in managers {
        let mut client = MembershipClient::new(peers.kept(manager)?);
        let request = v1::MembershipReserveRequest { address: address.to_owned() };
        match client.reserve(request).await {
            Ok(response) => return Ok(response.into_inner().raft_id),
            Err(status) => last = ApiError::from_status(&status),
        }
    }
    Err(last)
}
