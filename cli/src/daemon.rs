//! The daemon's assembly: the only place that knows manager and worker.
//!
//! A daemon is always a worker, and a manager when its certificate says so. Before `swarm init` or `swarm join` it is
//! neither: then only its local socket answers.

mod active;
mod address;
mod addresses;
mod bootstrap;
mod edge;
mod facts;
mod local;
mod node;
mod socket;
mod state_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use coracle_daemon::{Notifier, Shutdown, hardening, telemetry};
use tracing::{info, warn};

use node::Node;

use crate::error::Failure;
use crate::exit_code::ExitCode;

/// What `coracle daemon` is started with.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  coracle daemon --data-dir /var/lib/coracle --engine-label disk=ssd")]
pub(crate) struct DaemonArgs {
    /// Where the node keeps its state
    #[arg(long, value_name = "DIRECTORY", env = "CORACLE_DATA_DIR", default_value = "/var/lib/coracle")]
    pub(crate) data_dir: PathBuf,
    /// Where the local socket is, and what does not survive a reboot
    #[arg(long, value_name = "DIRECTORY", env = "CORACLE_RUN_DIR", default_value = "/run/coracle")]
    pub(crate) run_dir: PathBuf,
    /// Log filter: a level, or directives such as info,coracle_worker=debug
    #[arg(long, value_name = "FILTER", env = "CORACLE_LOG", default_value = "info")]
    pub(crate) log_level: String,
    /// Label of this node for constraints on engine.labels (may be repeated)
    #[arg(long = "engine-label", value_name = "KEY=VALUE")]
    pub(crate) engine_labels: Vec<String>,
    /// Something that tasks may reserve on this node, counted or by name (may be repeated)
    #[arg(
        long = "generic-resource",
        value_name = "KIND=NUMBER|KIND=NAME",
        env = "CORACLE_GENERIC_RESOURCE",
        value_delimiter = ','
    )]
    pub(crate) generic_resources: Vec<String>,
    /// Folder with CDI files, which say what devices need; of two the later counts (may be repeated)
    #[arg(
        long = "cdi-spec-dir",
        value_name = "DIRECTORY",
        env = "CORACLE_CDI_SPEC_DIR",
        value_delimiter = ',',
        default_values = ["/etc/cdi", "/var/run/cdi"]
    )]
    pub(crate) cdi_folders: Vec<PathBuf>,
    /// Control group under which containers are placed
    #[arg(long, value_name = "PATH", default_value = "coracle")]
    pub(crate) cgroup_parent: String,
    /// Host name to report instead of the machine's
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Give every container of this node an SELinux label, not only those whose services ask for one
    #[arg(long, env = "CORACLE_SELINUX_ENABLED")]
    pub(crate) selinux_enabled: bool,
    /// How long an image that nothing in the swarm uses or names is kept
    #[arg(long, value_name = "DURATION", env = "CORACLE_IMAGE_GRACE", default_value = "1h",
        value_parser = crate::opt::duration::parser("image-grace"))]
    pub(crate) image_grace: Duration,
    /// Where others reach this node from now on, if it is in a swarm: an address, an interface, or `auto` to find it
    #[arg(
        long,
        value_name = "ADDRESS|INTERFACE|auto",
        env = "CORACLE_ADVERTISE_ADDR",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) advertise_addr: String,
    /// Where a manager is now, for a node of a swarm whose managers have all moved (may be repeated)
    #[arg(long = "manager", value_name = "IP:PORT", env = "CORACLE_MANAGER", value_delimiter = ',')]
    pub(crate) managers: Vec<std::net::SocketAddr>,
    /// Make a swarm of this one node, reachable from this machine only: for a laptop
    #[arg(long)]
    pub(crate) dev: bool,
    /// Make snapshots after a few writes and begin segments after a few kilobytes: for tests
    #[arg(long, hide = true, env = "CORACLE_SMALL_LOG")]
    pub(crate) small_log: bool,
    /// How long certificates of a swarm that is made here are good, in seconds: for tests of what follows their end
    #[arg(long, hide = true, env = "CORACLE_CERTIFICATE_SECONDS")]
    pub(crate) certificate_seconds: Option<u64>,
    /// Bytes kept back on a manager's disk for the cluster's own writes: for tests
    #[arg(long, hide = true, env = "CORACLE_DISK_RESERVE")]
    pub(crate) disk_reserve: Option<u64>,
    /// Seconds for which evictions are held back when most nodes vanish and this leader is not cut off: for tests
    #[arg(long, hide = true, env = "CORACLE_HOLD_SECONDS")]
    pub(crate) hold_seconds: Option<u64>,
}

/// A disk with fewer bytes than this is full: files grow by a block at least, and some by several at once.
const FULL: u64 = 1 << 20;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start or one of its parts fails for good.
pub(crate) fn run(args: DaemonArgs) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the daemon makes containers and needs root: start it with sudo, or by its systemd unit");
    }
    // Before anything secret is in memory, and before there are threads.
    hardening::harden().context("hardening the process")?;
    telemetry::init(Some(&log_filter(&args.log_level))).context("setting up the log")?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        // As many as tokio makes by itself, when they are needed: health checks, starts and fillings of volumes may hold more
        // than two hundred at once, each kind within a limit of its own, and stopping a task must not wait for any of them.
        .max_blocking_threads(512)
        .thread_name("coracle")
        .enable_all()
        .build()
        .context("starting the runtime of the daemon")?;
    let data_dir = args.data_dir.clone();
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map_err(|error| with_full_disk(error, &data_dir))
}

/// Whatever could not be done: if the disk is full, that is why, and not every part says so.
fn with_full_disk(error: anyhow::Error, data_dir: &Path) -> anyhow::Error {
    let free = rustix::fs::statvfs(data_dir).map(|status| status.f_bavail.saturating_mul(status.f_frsize));
    let Ok(free @ 0..FULL) = free else { return error };
    let what = format!("the disk of {} is full: {free} bytes are free", data_dir.display());
    let hint = "free some space there, then start the daemon again; containers keep running meanwhile";
    Failure::new(ExitCode::Failure, what).with_hint(hint).caused_by(error).into()
}

/// A bare level is that of our own messages. Raft's library warns of each try to reach a manager that is down, many times a second;
/// that a node is down is told once by the manager that finds it out.
fn log_filter(level: &str) -> String {
    /// Where that library says as an error what it tells its caller as well: that it did not take a change of members (its
    /// lease had just ended, say), or an entry because it has stopped in an orderly way. The caller tries again, or says
    /// what is to be said at the level that it deserves.
    const TOLD_TWICE: &str = "openraft::raft::";
    /// Its heartbeats say as an error that the rest of it has ended; why it ended is told where it did.
    const AFTER_THE_END: &str = "openraft::core::heartbeat";
    if level.contains(['=', ',']) || matches!(level, "off" | "error") {
        return level.to_owned();
    }
    format!("warn,openraft=error,{TOLD_TWICE}=off,{AFTER_THE_END}=off,coracle={level}")
}

async fn serve(args: DaemonArgs) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals().context("listening for signals")?;
    let notifier = Notifier::from_environment().context("reaching the service manager")?;
    let dev = args.dev;
    let node = Node::open(args, shutdown.clone()).await?;
    let socket = socket::bind(node.run_dir())?;
    let serving = tokio::spawn(coracle_rpc::serve::serve_local(
        socket,
        edge::service(Arc::clone(&node)),
        socket::permitted(Arc::clone(&node)),
        shutdown.token().clone(),
    ));
    node.resume().await?;
    if dev {
        node.init_dev().await?;
    }
    notifier.ready().unwrap_or_else(|error| warn!(%error, "the service manager was not told"));
    info!(version = env!("CARGO_PKG_VERSION"), "daemon is ready");
    let keep_alive = notifier.keep_alive(shutdown.token());
    tokio::select! {
        () = shutdown.triggered() => {}
        () = async { keep_alive.await; std::future::pending().await } => {}
    }
    notifier.stopping().unwrap_or_else(|error| warn!(%error, "the service manager was not told"));
    info!("stopping; containers keep running");
    node.stop().await;
    serving.await.context("serving the local socket")?;
    node.failure().map_or(Ok(()), Err)
}
