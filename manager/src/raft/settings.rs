//! Every setting of openraft that is not left at its default, and why. Several defaults silently turn a feature off.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use super::error::RaftStartError;

/// Largest command of one entry, in bytes.
pub(crate) const COMMAND_LIMIT: usize = 3 << 19;

/// Largest batch of entries read for one message, in bytes (one entry may be larger). Far below [`MESSAGE_LIMIT`].
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// Largest message taken from a peer, in bytes.
pub(crate) const MESSAGE_LIMIT: usize = 8 << 20;

/// Bytes of one piece of a snapshot, in files and on the wire.
pub(crate) const SNAPSHOT_CHUNK: usize = 1 << 20;

/// How long a peer may leave an append or a piece of a snapshot unanswered before the connection counts as dead.
/// Generous: openraft's own limit for appends (three quarters of a heartbeat) would cut off a slow disk for good.
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// How long a peer may take to install a snapshot after its last byte.
const INSTALL_SNAPSHOT: Duration = Duration::from_secs(120);

/// The clocks of elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader tells that it is alive, and a fifth more. A heartbeat also fails after this time, so it must be longer
    /// than a round trip.
    pub heartbeat: Duration,
    /// Shortest time without a leader before a manager stands for election.
    pub election_min: Duration,
    /// Longest such time, and the time for which a follower trusts a leader it heard of.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For one site. A new leader after about 0.7 s in the median.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
        }
    }
}

/// How much log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A snapshot is made when the log has grown by this many bytes since the last one.
    pub snapshot_bytes: u64,
    /// A snapshot is made when the log has grown by this many entries since the last one.
    pub snapshot_entries: u64,
    /// Entries kept before the snapshot, so that a follower that missed little needs no snapshot, and so that one that
    /// receives a snapshot finds the entries that came meanwhile.
    pub keep_entries: u64,
    /// Bytes of such entries above which they are dropped.
    pub keep_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { snapshot_bytes: 32 << 20, snapshot_entries: 50_000, keep_entries: 5_000, keep_bytes: 64 << 20 }
    }
}

impl Limits {
    /// So little that tests reach snapshots, new segments and purges with a few writes.
    pub(crate) const SMALL: Self =
        Self { snapshot_bytes: 64 << 10, snapshot_entries: 25, keep_entries: 5, keep_bytes: 16 << 10 };
}

/// Bytes of a segment with [`Limits::SMALL`].
pub(crate) const SMALL_SEGMENT: u64 = 4 << 10;

/// The settings for openraft.
pub(crate) fn config(cluster_id: &str, timing: &Timing, limits: &Limits) -> Result<Config, RaftStartError> {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: milliseconds(timing.heartbeat),
        election_timeout_min: milliseconds(timing.election_min),
        election_timeout_max: milliseconds(timing.election_max),

        // Unset means off: a manager that comes back from a partition would unseat a working leader. Needs
        // `Peer::pre_vote` too, since the network trait's default grants every request.
        enable_pre_vote: Some(true),
        // Unset means on: a restarted leader would lead on without an election, with applied state behind its log,
        // and serve stale reads.
        enable_leader_restore: Some(false),
        // A manager whose log went backwards has lost acknowledged writes: never let it continue.
        allow_log_reversion: Some(false),

        // The default, 200 ms, is for the whole snapshot. `Peer::full_snapshot` watches the progress itself.
        install_snapshot_timeout: milliseconds(INSTALL_SNAPSHOT),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK as u64,
        // By entries as a backstop; mostly by bytes (`compaction`).
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits.snapshot_entries),
        // A follower further behind gets a snapshot. More than a snapshot's distance, or it would never be enough.
        replication_lag_threshold: limits.snapshot_entries.saturating_mul(2),
        // The log before a snapshot must outlast its transfer, or the follower needs the next snapshot, for ever.
        max_in_snapshot_log_to_keep: limits.keep_entries,

        // A message is bounded in bytes by `LogStore::limited_get_log_entries`; this is only its count.
        max_payload_entries: 4096,
        // Quick at first, since most failures are restarts; then rarely enough not to matter.
        backoff: "50ms 100ms 200ms ...1s".to_owned(),
        ..Config::default()
    };
    config.validate().map_err(|error| RaftStartError::Settings { reason: error.to_string() })
}
