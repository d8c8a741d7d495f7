//! What the records hold. They are protobuf messages, so that a newer agent reads what an older one wrote.

use std::collections::BTreeMap;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::task::{DesiredState, Slot, TaskState, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_pki::TicketPublicKey;
use coracle_proto::v1;

use crate::task::restart::History;

/// The changing part of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskRecord {
    pub(crate) desired: DesiredState,
    pub(crate) status: TaskStatus,
    /// The managers have this status.
    pub(crate) acknowledged: bool,
    pub(crate) history: History,
}

/// A task as the journal has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredTask {
    /// As it came from the managers.
    pub(crate) assigned: v1::AssignedTask,
    pub(crate) record: TaskRecord,
}

/// A log whose task is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptLog {
    pub(crate) service: ServiceId,
    pub(crate) slot: Slot,
    pub(crate) ended_at: Timestamp,
}

/// All of a journal.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) tasks: BTreeMap<TaskId, StoredTask>,
    pub(crate) kept_logs: BTreeMap<TaskId, KeptLog>,
    pub(crate) managers: Vec<String>,
    pub(crate) ticket_key: Option<TicketPublicKey>,
    /// The highest term of a leader that this node has been with; zero before the first.
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredRecord {
    #[prost(uint32, tag = "1")]
    desired: u32,
    #[prost(message, optional, tag = "2")]
    status: Option<v1::TaskStatus>,
    #[prost(bool, tag = "3")]
    acknowledged: bool,
    /// Nanoseconds since 1970.
    #[prost(uint64, repeated, tag = "4")]
    local_starts: Vec<u64>,
}

impl From<&TaskRecord> for StoredRecord {
    fn from(record: &TaskRecord) -> Self {
        Self {
            desired: record.desired.number().into(),
            status: Some((&record.status).into()),
            acknowledged: record.acknowledged,
            local_starts: record.history.starts().iter().map(|start| start.as_nanos()).collect(),
        }
    }
}

impl From<StoredRecord> for TaskRecord {
    /// A state that this version does not know is taken for one that the runtime will correct.
    fn from(stored: StoredRecord) -> Self {
        let desired = u16::try_from(stored.desired).ok().and_then(DesiredState::from_number);
        let status = stored.status.and_then(|status| TaskStatus::try_from(status).ok());
        let accepted = || TaskStatus { state: TaskState::Accepted, ..TaskStatus::default() };
        Self {
            desired: desired.unwrap_or_default(),
            status: status.unwrap_or_else(accepted),
            acknowledged: stored.acknowledged,
            history: History::new(stored.local_starts.into_iter().map(Timestamp::from_nanos).collect()),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredKeptLog {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(message, optional, tag = "2")]
    slot: Option<v1::Slot>,
    #[prost(uint64, tag = "3")]
    ended_at: u64,
}

impl From<&KeptLog> for StoredKeptLog {
    fn from(kept: &KeptLog) -> Self {
        let slot = Some(kept.slot.into());
        Self { service: kept.service.to_string(), slot, ended_at: kept.ended_at.as_nanos() }
    }
}

impl StoredKeptLog {
    pub(super) fn into_kept(self) -> Option<KeptLog> {
        Some(KeptLog {
            service: self.service.parse().ok()?,
            slot: self.slot?.try_into().ok()?,
            ended_at: Timestamp::from_nanos(self.ended_at),
        })
    }
}
