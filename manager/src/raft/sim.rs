//! Simulation: real managers on a virtual clock, a network and disks that fail by seed.
//!
//! Everything between [`RaftNode`](super::RaftNode) and the disk is the code of production: openraft, the log store and
//! its log, the state machine, snapshots and their files, and the gRPC client and server with their messages. Only the
//! runtime, the connection under HTTP and the directory are others.
//!
//! ```text
//! clients ──▶ RaftNode ─▶ openraft (runtime: virtual time, one thread, one order for one seed)
//!                │                │
//!             Peer, RaftService   LogStore, StateMachine, SnapshotStore
//!                │                │
//!             Network             CrashStorage
//! ```
//!
//! `CORACLE_RAFT_SEED=n` runs one seed of each test by seeds; `CORACLE_RAFT_SEEDS=n` says how many there are;
//! `CORACLE_LEADER_KILLS=n` how often a leader is killed.

mod client;
mod cluster;
mod host;
mod invariants;
mod ledger;
mod life;
mod nemesis;
mod network;
mod runtime;
mod seeds;
mod state;
mod world;

mod chaos;
mod idle;
mod kills;
mod members;
mod tuning;
