//! Keeps track of where this node is reached and where managers are: what changes is used at once and written down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_pki::NodeIdentity;
use coracle_pki::tls::SwappableIdentity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::node::Node;
use super::state_file::Membership;
use super::{DaemonArgs, address};

/// How often this machine's addresses are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Where this node is.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) listen: SocketAddr,
    /// What `--advertise-addr` said.
    pub(super) chosen: String,
    /// `IP:PORT` at which others reach it.
    pub(super) advertise: watch::Sender<String>,
}

/// What a member that starts is told by its machine and its operator: where it is now, and where managers are. Tells whether that is
/// news, to be written. An interface that has no address now, or several to choose from, keeps nobody from starting.
///
/// # Errors
/// If what `--advertise-addr` says can never be used.
pub(super) fn on_start(membership: &mut Membership, args: &DaemonArgs) -> anyhow::Result<bool> {
    let known = address::usable()?;
    let before = (membership.advertise, membership.chosen.clone(), membership.managers.clone());
    match args.advertise_addr.as_str() {
        "" => {}
        "auto" => membership.chosen.clear(),
        chosen => {
            address::check_advertise(chosen, membership.listen)?;
            membership.chosen = chosen.to_owned();
        }
    }
    match address::present(&membership.chosen, membership.advertise, membership.listen, &known) {
        Ok(present) => {
            if present != membership.advertise {
                info!(old = %membership.advertise, new = %present, "this node's address has changed");
            }
            membership.advertise = present;
        }
        Err(error) => {
            warn!(address = %membership.advertise, "this node keeps its last address: there is none in particular to choose: {error:#}");
        }
    }
    for manager in &args.managers {
        let manager = manager.to_string();
        if !membership.managers.contains(&manager) {
            membership.managers.push(manager);
        }
    }
    Ok(before != (membership.advertise, membership.chosen.clone(), membership.managers.clone()))
}

/// Writes what a node keeps of its membership: one write after another, each of everything.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) node: Arc<Node>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) managers: watch::Receiver<Vec<String>>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Keeper {
    /// Writes the membership with this identity.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) async fn write(
        &self,
        identity: &NodeIdentity,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let _turn = self.turn.lock().await;
        self.write_now(identity).await
    }

    async fn write_present(
        &self,
        identity: &SwappableIdentity,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let _turn = self.turn.lock().await;
        let present = identity.current();
        self.write_now(present.identity()).await
    }

    async fn write_now(
        &self,
        identity: &NodeIdentity,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let membership = Membership {
            identity: NodeIdentity::from_pem(&identity.to_pem()?)?,
            listen: self.addresses.listen,
            advertise: self.addresses.advertise.borrow().parse()?,
            managers: self.managers.borrow().clone(),
            chosen: self.addresses.chosen.clone(),
        };
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || node.file().write(node.keys(), &membership)).await??;
        Ok(())
    }

    /// Follows this machine's addresses and the list of managers until `stop`.
    pub(super) async fn follow(mut self, identity: SwappableIdentity, stop: CancellationToken) {
        let (mut said, mut unwritten) = (String::new(), false);
        loop {
            if unwritten {
                unwritten = match self.write_present(&identity).await {
                    Ok(()) => false,
                    Err(error) => {
                        warn!(%error, "this node's membership was not written; trying again");
                        true
                    }
                };
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.managers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    unwritten = true;
                }
                () = tokio::time::sleep(PERIOD) => unwritten |= self.look(&mut said),
            }
        }
    }

    /// Whether this node has moved. What hinders is said once.
    fn look(&self, said: &mut String) -> bool {
        let Addresses { listen, chosen, advertise } = &*self.addresses;
        let Ok(last) = advertise.borrow().parse::<SocketAddr>() else { return false };
        let present = address::usable().and_then(|known| address::present(chosen, last, *listen, &known));
        match present {
            Ok(present) if present == last => false,
            Ok(present) => {
                info!(old = %last, new = %present, "this node's address has changed");
                said.clear();
                advertise.send_replace(present.to_string());
                true
            }
            Err(error) => {
                let error = format!("{error:#}");
                if *said != error {
                    warn!(address = %last, "this node keeps its last address: there is none in particular to choose: {error}");
                    *said = error;
                }
                false
            }
        }
    }
}
