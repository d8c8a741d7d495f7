//! What managers say of this node and of themselves, and what they are told first.

use coracle_model::task::{TaskState, TaskStatus};
use coracle_pki::TicketPublicKey;
use coracle_proto::v1;
use tracing::{info, warn};

use super::Desk;
use crate::agent::NodeUpdate;
use crate::task::fsm::Reality;

impl Desk {
    pub(super) fn reports(&self) -> Vec<v1::TaskReport> {
        let strays = self.strays.values().map(|found| {
            let (state, pid) = match found.reality {
                Reality::Running { pid } => (TaskState::Running, pid),
                _ => (TaskState::Accepted, 0),
            };
            (found.task, TaskStatus { state, pid, since: self.workshop.now(), ..TaskStatus::default() })
        });
        let tasks = self.tasks.iter().map(|(task, entry)| (*task, entry.record.status.clone()));
        tasks
            .chain(strays)
            .map(|(task, status)| v1::TaskReport { task: task.to_string(), status: Some((&status).into()) })
            .collect()
    }

    pub(super) fn on_welcome(&mut self, welcome: v1::Welcome) {
        self.offline_at = None;
        if let Ok(key) = <[u8; 32]>::try_from(&welcome.ticket_public_key[..]) {
            let key = TicketPublicKey(key);
            if self.views.ticket_key.send_replace(Some(key)) != Some(key) {
                self.journal.put_ticket_key(&key);
            }
        }
        if let Some(list) = welcome.managers {
            self.on_managers(list);
        }
        if let Some(update) = welcome.node {
            self.on_node(&update);
        }
        self.set_offline(false);
    }

    pub(super) fn on_node(&self, update: &v1::NodeUpdate) {
        match NodeUpdate::try_from(update) {
            Ok(update) => drop(self.views.node.send_replace(Some(update))),
            Err(error) => warn!(%error, "a manager's word on this node is not understood"),
        }
    }

    pub(super) fn on_managers(&mut self, list: v1::ManagerList) {
        // A list without anybody would leave a node without a way back.
        if list.addresses.is_empty() || *self.views.managers.borrow() == list.addresses {
            return;
        }
        self.journal.put_managers(&list.addresses);
        self.views.managers.send_replace(list.addresses);
    }

    pub(super) fn set_offline(&mut self, offline: bool) {
        if self.offline == offline {
            return;
        }
        self.offline = offline;
        info!(
            offline,
            tasks = self.tasks.len(),
            "{}",
            if offline {
                "no manager can be reached: tasks are restarted here"
            } else {
                "a manager decides again"
            }
        );
        for entry in self.tasks.values() {
            entry.wish.send_modify(|wish| wish.offline = offline);
        }
    }
}
