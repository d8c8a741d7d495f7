//! Where a command goes: the local socket, or a manager elsewhere with an operator's certificate.
//!
//! Every call that gives one answer has a deadline. Calls that surely were not done (no leader at the moment, the
//! daemon restarting) are repeated for a while; writes carry an idempotency key, so that they may also be
//! repeated when it is unknown whether they were done.

mod call;
mod connect;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use coracle_model::id::IdempotencyKey;
use coracle_proto::v1;
use tonic::transport::Channel;

use crate::opt::duration;

/// Largest answer that is read: long lists of tasks.
const ANSWER_LIMIT: usize = 512 << 20;

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Local socket of the daemon [env: CORACLE_SOCKET] [default: /run/coracle/coracle.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A manager elsewhere, reached with an operator's certificate; goes before the command [env: CORACLE_HOST]
    // Not global: `service create --host` is another thing, and Docker has both.
    #[arg(short = 'H', long, value_name = "IP:PORT", conflicts_with = "socket")]
    pub host: Option<String>,
    /// Folder of the operator's certificate [env: CORACLE_CERT_PATH] [default: ~/.config/coracle]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub cert_dir: Option<PathBuf>,
    /// How long an answer may take
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s",
          value_parser = duration::parser("request-timeout"))]
    pub request_timeout: Duration,
}

/// What commands reach the managers with.
#[derive(Debug)]
pub(crate) struct Context {
    channel: Channel,
    target: String,
    remote: bool,
    deadline: Duration,
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $module:ident::$client:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&self) -> v1::$module::$client<Channel> {
            v1::$module::$client::new(self.channel.clone()).max_decoding_message_size(ANSWER_LIMIT)
        }
    )*};
}

impl Context {
    clients! {
        /// Services.
        services: services_client::ServicesClient;
        /// Tasks.
        tasks: tasks_client::TasksClient;
        /// Nodes.
        nodes: nodes_client::NodesClient;
        /// The cluster.
        swarm: swarm_client::SwarmClient;
        /// Images.
        images: images_client::ImagesClient;
        /// Secrets and configs.
        files: files_client::FilesClient;
        /// Volumes of the nodes.
        volumes: volumes_client::VolumesClient;
        /// The node whose socket is used.
        local: local_node_client::LocalNodeClient;
    }
}

/// A mark for one write of this invocation: a repetition of the write is recognised by it.
pub(crate) fn idempotency_key() -> String {
    IdempotencyKey::from_bits(rand::random()).to_string()
}

/// The operator's folder: what was given, else the environment's, else the usual one.
pub(crate) fn certificate_folder(given: Option<PathBuf>) -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .or_else(|| from("CORACLE_CERT_PATH"))
        .or_else(|| from("XDG_CONFIG_HOME").map(|home| home.join("coracle")))
        .or_else(|| from("HOME").map(|home| home.join(".config/coracle")))
}

/// The file in that folder with key, certificate and root.
pub(crate) const BUNDLE_FILE: &str = "operator.pem";
