//! Room that is kept back on the disk of a manager's log, so that what operators add cannot stop the cluster's own work.
//!
//! Below it the leader takes nothing more from operators, except what makes the cluster smaller or takes work away from a
//! machine. Statuses, liveness, plans and membership are still written: without them containers could not be looked after.
//! They stop, and with them the daemon, when there is no room at all.

use std::fmt;
use std::path::PathBuf;

use coracle_disk::Space;
use coracle_manager_core::Change;
use coracle_manager_core::state::View;
use coracle_model::node::Availability;
use coracle_model::role::Role;
use coracle_proto::status::{ApiError, Reason};

/// Kept back at least, in bytes: two snapshots and the log between them on most clusters.
const LEAST: u64 = 64 << 20;
/// Kept back of a large disk: one part in this many.
const PART: u64 = 50;

/// How much is kept back, and where.
#[derive(Debug, Clone, Default)]
pub struct Reserve {
    /// The directory of the log.
    pub directory: PathBuf,
    /// Bytes kept back; by default 64 MiB, or two parts in a hundred of a larger disk.
    pub bytes: Option<u64>,
}

/// Too little room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The directory of the log.
    pub directory: PathBuf,
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes that are kept back.
    pub reserve: u64,
}

impl Reserve {
    /// What is short, if so much room is left.
    #[must_use]
    pub fn shortage(&self, space: Space) -> Option<Shortage> {
        let reserve = self.bytes.unwrap_or_else(|| LEAST.max(space.total / PART));
        (space.free < reserve).then(|| Shortage {
            directory: self.directory.clone(),
            free: space.free,
            reserve,
        })
    }
}

impl Shortage {
    /// What an operator is told whose write is not taken.
    pub(crate) fn refusal(&self, leader: &str) -> ApiError {
        let message = format!("the leader at {leader} takes no new work: {self}");
        ApiError::new(Reason::Exhausted, message).with_hint(
            "free some space there; removing services, draining nodes and demoting managers goes on, and another leader \
             may have more room",
        )
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the disk of {} has {} free and {} are kept back for the cluster's own work",
            self.directory.display(),
            Mebibytes(self.free),
            Mebibytes(self.reserve)
        )
    }
}

struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = u128::from(self.0) * 10 / (1 << 20);
        write!(formatter, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

/// Whether a write only removes something, or takes work or a role away from a node: what helps when room is short.
pub(crate) fn relieves(changes: &[Change], view: &View) -> bool {
    changes.iter().all(|change| match change {
        Change::RemoveService { .. }
        | Change::RemoveNode { .. }
        | Change::RemoveTask { .. }
        | Change::RemoveImage { .. } => true,
        Change::UpdateNodeSpec { node, spec, .. } => view.node(*node).is_some_and(|node| {
            (node.spec.role != spec.role && spec.role == Role::Worker)
                || (node.spec.availability != spec.availability && spec.availability != Availability::Active)
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortage(bytes: Option<u64>, free: u64, total: u64) -> Option<u64> {
        let reserve = Reserve { directory: "/data/raft".into(), bytes };
        reserve.shortage(Space { free, total }).map(|shortage| shortage.reserve)
    }

    #[test]
    fn a_fiftieth_of_a_large_disk_is_kept_back_and_64_mebibytes_of_a_small_one() {
        assert_eq!(shortage(None, (64 << 20) - 1, 1 << 30), Some(64 << 20));
        assert_eq!(shortage(None, 64 << 20, 1 << 30), None);
        assert_eq!(shortage(None, 19 << 30, 1000 << 30), Some(20 << 30));
        assert_eq!(shortage(None, 20 << 30, 1000 << 30), None);
        assert_eq!(shortage(Some(10), 9, 1000 << 30), Some(10));
        assert_eq!(shortage(Some(10), 10, 1000 << 30), None);
    }

    #[test]
    fn a_refusal_names_path_room_and_reserve() {
        let reserve = Reserve { directory: "/data/raft".into(), bytes: Some(3 << 20) };
        let error =
            reserve.shortage(Space { free: 1 << 19, total: 1 << 30 }).unwrap().refusal("10.0.0.1:2377");
        for part in ["/data/raft", "0.5 MiB free", "3.0 MiB are kept back", "10.0.0.1:2377"] {
            assert!(error.message.contains(part), "{part}: {}", error.message);
        }
    }
}
