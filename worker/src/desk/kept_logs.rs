//! The logs of tasks, also of those that are gone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coracle_model::id::TaskId;
use coracle_proto::v1;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Desk;
use crate::logs::LogQuery;
use crate::retention;

impl Desk {
    pub(super) fn log_queries(&self, subscription: &v1::LogSubscription) -> Vec<LogQuery> {
        let query = |id: &String| {
            let task: TaskId = id.parse().ok()?;
            let ended = match self.tasks.get(&task) {
                Some(entry) => entry.ended.clone(),
                None if self.kept_logs.contains_key(&task) => cancelled(),
                None => return None,
            };
            Some(LogQuery {
                task,
                directory: self.workshop.log_directory(task),
                tail: subscription.tail,
                since: subscription.since,
                follow: subscription.follow,
                ended,
            })
        };
        subscription.tasks.iter().filter_map(query).collect()
    }

    pub(super) fn delete_old_logs(&mut self) {
        for task in retention::surplus(&self.kept_logs, self.workshop.now()) {
            self.kept_logs.remove(&task);
            self.journal.remove_kept_log(task);
            delete_log(self.workshop.log_directory(task));
        }
    }

    /// The logs that belong to something, when the agent begins.
    pub(crate) fn known_logs(&self) -> BTreeSet<String> {
        let tasks = self.tasks.keys().chain(self.kept_logs.keys()).chain(self.strays.keys());
        tasks.map(ToString::to_string).collect()
    }
}

fn cancelled() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

fn delete_log(directory: PathBuf) {
    tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            warn!(%error, path = %directory.display(), "log was not deleted");
        }
        _ => {}
    });
}
