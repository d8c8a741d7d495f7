//! The steps into a swarm and out of it. Each leaves either a member or nothing behind, wherever it breaks off.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coracle_manager::manager::Start;
use coracle_model::node::Availability;
use coracle_pki::JoinToken;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_worker::identity::{IdentityError, Joiner};
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::super::active::Active;
use super::super::address;
use super::super::bootstrap::{NewCluster, new_cluster};
use super::super::state_file::Membership;
use super::{Node, bind, directories};

/// Longest time that tasks get to stop when a node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(60);

impl Node {
    /// Makes a swarm of this node alone, for a laptop.
    ///
    /// # Errors
    /// As [`Node::init`].
    pub(in super::super) async fn init_dev(self: &Arc<Self>) -> anyhow::Result<()> {
        if self.active().is_some() {
            return Ok(());
        }
        let here = format!("127.0.0.1:{}", address::DEFAULT_PORT);
        self.init(&here, &here, Availability::Active).await?;
        info!("made a swarm of this node for development");
        Ok(())
    }

    fn refuse_if_member(&self) -> anyhow::Result<()> {
        let Some(active) = self.active() else { return Ok(()) };
        let message = format!("this node is part of the swarm {} already", active.identity().cluster());
        Err(ApiError::new(Reason::Exists, message)
            .with_hint("leave it first with `coracle swarm leave`")
            .into())
    }

    /// Makes a new swarm with this node as its manager.
    ///
    /// # Errors
    /// If the node is in a swarm already, an address cannot be used, or the disk refuses. Nothing is left behind.
    pub(in super::super) async fn init(
        self: &Arc<Self>,
        advertise: &str,
        listen: &str,
        availability: Availability,
    ) -> anyhow::Result<v1::InitResponse> {
        let _turn = self.turn.lock().await;
        self.refuse_if_member()?;
        let known = address::usable()?;
        let listen = address::listen(listen, &known)?;
        let chosen = advertise;
        let advertise = address::advertise(chosen, listen, &known)?;
        let warnings = warned(advertise)?;
        let listener = bind(listen).await?;
        let NewCluster { cluster, node, identity, worker_token, manager_token } =
            self.new_cluster(advertise, availability)?;
        let (node_id, cluster_id) = (node.id, cluster.id);
        let (managers, chosen) = (vec![advertise.to_string()], chosen.to_owned());
        let membership = Membership { identity, listen, advertise, managers, chosen };
        coracle_crash_point::crash_point!("init.before-forget");
        self.forget().await?;
        let start = Start::Bootstrap { cluster: Box::new(cluster), node: Box::new(node) };
        let active = self.begin(membership, listener, start).await?;
        self.active.store(Some(active));
        info!(cluster = %cluster_id, node = %node_id, address = %advertise, "made a swarm");
        Ok(v1::InitResponse {
            node_id: node_id.to_string(),
            cluster_id: cluster_id.to_string(),
            address: advertise.to_string(),
            worker_token: worker_token.expose().to_string(),
            manager_token: manager_token.expose().to_string(),
            warnings,
        })
    }

    fn new_cluster(
        &self,
        advertise: std::net::SocketAddr,
        availability: Availability,
    ) -> anyhow::Result<NewCluster> {
        let life = self.args.certificate_seconds.map(Duration::from_secs);
        new_cluster(self.description.clone(), advertise, availability, life, coracle_manager::store::now())
    }

    /// Joins a swarm.
    ///
    /// # Errors
    /// If the node is in a swarm already, the manager cannot be reached, is of another swarm than the token, or refuses it. Nothing is
    /// left behind.
    pub(in super::super) async fn join(
        self: &Arc<Self>,
        request: v1::JoinRequest,
    ) -> anyhow::Result<v1::JoinResponse> {
        let _turn = self.turn.lock().await;
        self.refuse_if_member()?;
        let known = address::usable()?;
        let listen = address::listen(&request.listen_address, &known)?;
        let advertise = address::advertise(&request.advertise_address, listen, &known)?;
        let warnings = warned(advertise)?;
        let listener = bind(listen).await?;
        let availability = Availability::from(request.availability());
        let token = JoinToken::parse(&request.token).context("token")?;
        let remote = remote(&request.remote)?;
        let joiner =
            Joiner { description: self.description.clone(), address: advertise.to_string(), availability };
        coracle_crash_point::crash_point!("join.before-certificate");
        let (identity, mut managers) = coracle_worker::identity::join(&remote, &token, &joiner)
            .await
            .map_err(|error| join_error(&error, &remote))?;
        coracle_crash_point::crash_point!("join.after-certificate");
        let (node, cluster, role) = (identity.node(), identity.cluster(), identity.role());
        let node = node.context("the certificate is not a node's")?;
        if managers.is_empty() {
            managers.push(remote);
        }
        self.forget().await?;
        let start = Start::Member { managers: managers.clone() };
        let membership =
            Membership { identity, listen, advertise, managers, chosen: request.advertise_address };
        let active = self.begin(membership, listener, start).await?;
        self.active.store(Some(active));
        info!(%cluster, %node, %role, address = %advertise, "joined a swarm");
        Ok(v1::JoinResponse {
            node_id: node.to_string(),
            cluster_id: cluster.to_string(),
            role: v1::NodeRole::from(role).into(),
            warnings,
        })
    }

    /// Starts the node's part and writes the membership: last, so that a start that fails leaves no member behind.
    async fn begin(
        self: &Arc<Self>,
        membership: Membership,
        listener: TcpListener,
        start: Start,
    ) -> anyhow::Result<Arc<Active>> {
        let content = self.file.encode(&membership)?;
        match Active::start(self, membership, listener, start, false).await {
            Ok(active) => match self.file.store(&self.keys, &content) {
                Ok(()) => {
                    active.written();
                    Ok(active)
                }
                Err(error) => {
                    active.stop().await;
                    self.forget().await?;
                    Err(error)
                }
            },
            Err(error) => {
                self.forget().await?;
                Err(error)
            }
        }
    }

    /// Leaves the swarm: stops tasks, gives up the place in Raft, and deletes what the node knew of the swarm.
    ///
    /// # Errors
    /// If the node is in no swarm, or is a manager and `force` is not given.
    pub(in super::super) async fn leave(&self, force: bool) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let Some(active) = self.active() else {
            return Err(ApiError::new(Reason::NotFound, "this node is not part of a swarm").into());
        };
        if let Some(manager) = active.manager() {
            leave_raft(&manager, &active, force).await?;
            drop(manager);
            // It would ask for a new place in Raft while its tasks stop, and leave a voter behind that nobody ever hears of again.
            active.stop_managing().await;
        }
        info!("leaving the swarm");
        coracle_crash_point::crash_point!("leave.before-stop");
        active.agent().stop_all_tasks(LEAVE_DEADLINE).await;
        active.agent().remove_images().await;
        active.stop().await;
        self.active.store(None);
        coracle_crash_point::crash_point!("leave.after-tasks");
        self.file.remove()?;
        coracle_crash_point::crash_point!("leave.after-membership");
        self.forget().await
    }

    /// Deletes what belongs to a membership. There may be much of it, so not on a thread that serves calls.
    async fn forget(&self) -> anyhow::Result<()> {
        let directory = self.args.data_dir.clone();
        tokio::task::spawn_blocking(move || directories::forget(&directory)).await?
    }
}

/// What the operator is told of the address, in the log too.
fn warned(advertise: std::net::SocketAddr) -> anyhow::Result<Vec<String>> {
    let warnings = address::warnings(advertise)?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(warnings)
}

/// The manager to join through; the port may be left out.
fn remote(text: &str) -> anyhow::Result<String> {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => Ok(std::net::SocketAddr::new(ip, address::DEFAULT_PORT).to_string()),
        Err(_) => bail!("manager: invalid value {text:?}: use IP:PORT of a manager"),
    }
}

fn join_error(error: &IdentityError, remote: &str) -> ApiError {
    let text = format!("cannot join through {remote}: {}", coracle_daemon::ErrorChain(error));
    match error {
        IdentityError::Refused { status, .. } => {
            let refused = ApiError::from_status(status);
            ApiError { message: format!("manager {remote} refuses: {}", refused.message), ..refused }
        }
        IdentityError::Connect(_) | IdentityError::Silent { .. } => ApiError::new(Reason::Unavailable, text)
            .with_hint("check the address, that the manager runs, and that its port is open"),
        IdentityError::Token { .. } => ApiError::new(Reason::Unauthenticated, text).with_hint(
            "the token was not sent; get the present one with `coracle swarm join-token worker` on a manager",
        ),
        _ => ApiError::new(Reason::Internal, text),
    }
}

async fn leave_raft(
    manager: &coracle_manager::manager::Manager,
    active: &Active,
    force: bool,
) -> anyhow::Result<()> {
    let voters = manager.status().members.voters.len();
    if !force {
        let message = if voters <= 1 {
            "this node is the last manager: leaving ends the swarm and loses its state".to_owned()
        } else {
            format!("this node is one of {voters} managers")
        };
        let hint = if voters <= 1 {
            "use --force if that is what you want".to_owned()
        } else {
            format!(
                "demote it first with `coracle node demote {}`, or use --force",
                active.identity().node_text()
            )
        };
        return Err(ApiError::new(Reason::Forbidden, message).with_hint(hint).into());
    }
    if let Err(error) = manager.leave(true).await {
        warn!(%error, "the other managers were not told");
    }
    Ok(())
}
