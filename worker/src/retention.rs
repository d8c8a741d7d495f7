//! Which logs of tasks that are gone are kept.
//!
//! A container is deleted once the managers know how it ended; its log stays so that `service logs` shows why tasks
//! failed. Of each slot of a service the newest [`KEPT_PER_SLOT`] are kept, for [`KEPT_FOR`] at most. Images are never
//! deleted here: they are the fleet's copies.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::task::Slot;
use coracle_model::time::Timestamp;

use crate::journal::KeptLog;

/// Logs of former tasks kept for each slot of a service; as many as the managers remember tasks by default.
pub(crate) const KEPT_PER_SLOT: usize = 5;
/// How long they are kept.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Those to delete.
pub(crate) fn surplus(kept: &BTreeMap<TaskId, KeptLog>, now: Timestamp) -> Vec<TaskId> {
    let mut slots: BTreeMap<(ServiceId, Slot), Vec<(Timestamp, TaskId)>> = BTreeMap::new();
    for (task, log) in kept {
        slots.entry((log.service, log.slot)).or_default().push((log.ended_at, *task));
    }
    let mut surplus = Vec::new();
    for logs in slots.values_mut() {
        logs.sort_unstable_by(|one, other| other.cmp(one));
        let too_old = |(ended, _): &&(Timestamp, TaskId)| now.since(*ended) >= KEPT_FOR;
        surplus.extend(logs.iter().skip(KEPT_PER_SLOT).map(|(_, task)| *task));
        surplus.extend(logs.iter().take(KEPT_PER_SLOT).filter(too_old).map(|(_, task)| *task));
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_slot_are_kept_for_a_day() {
        let log = |slot, ended| KeptLog {
            service: ServiceId::from_bits(1),
            slot: Slot::Number(slot),
            ended_at: Timestamp::from_secs(ended),
        };
        let mut kept: BTreeMap<TaskId, KeptLog> =
            (0..8).map(|n| (TaskId::from_bits(n), log(1, 1000 + n as u64))).collect();
        kept.insert(TaskId::from_bits(20), log(2, 1));
        let ids = |tasks: &[u128]| tasks.iter().copied().map(TaskId::from_bits).collect::<Vec<_>>();
        assert_eq!(surplus(&kept, Timestamp::from_secs(2000)), ids(&[2, 1, 0]));
        let later = Timestamp::from_secs(1 + 24 * 3600);
        assert_eq!(surplus(&kept, later), ids(&[2, 1, 0, 20]));
    }
}
