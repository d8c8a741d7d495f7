//! Peers, measured beside ours: each started on hosts of the same kind, one cluster at a time, and gone afterwards.
//!
//! A peer's programs are those that the system has; nothing of a peer that the system itself runs is touched.

mod containers;
mod engine;
mod etcd;
mod etcd_wire;
mod machines;
mod swarm;
mod swarm_load;
mod swarm_request;

use anyhow::{Result, bail};

use super::Options;
use super::report::Report;
use crate::process;

/// A peer, or several that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Peer {
    /// Docker Engine in swarm mode.
    Swarm,
    /// etcd.
    Etcd,
    /// runc and crun.
    Runtimes,
}

impl Peer {
    /// In the order in which they are measured.
    pub(super) const ALL: [Self; 3] = [Self::Swarm, Self::Etcd, Self::Runtimes];

    /// Measures it.
    ///
    /// # Errors
    /// When its programs are missing, or it does not do what is measured.
    pub(super) fn measure(self, options: &Options, report: &mut Report) -> Result<()> {
        self.check_programs()?;
        match self {
            Self::Swarm => swarm::measure(options, report),
            Self::Etcd => etcd::measure(options, report),
            Self::Runtimes => containers::measure(options, report),
        }
    }

    fn check_programs(self) -> Result<()> {
        let needed: &[&str] = match self {
            Self::Swarm => &["dockerd", "containerd", "runc", "iptables"],
            Self::Etcd => &["etcd"],
            Self::Runtimes => &["runc", "crun"],
        };
        match needed.iter().find(|name| !process::has_program(name)) {
            None => Ok(()),
            Some(missing) => bail!("the peer {self:?} needs the program {missing}"),
        }
    }
}
