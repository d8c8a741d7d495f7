//! Proposing a plan, until it is known what became of it.

use std::future::Future;
use std::time::Duration;

use coracle_manager_core::plan::Plan;
use coracle_model::time::Timestamp;
use coracle_proto::status::{ApiError, Reason};

use super::queue::Key;
use crate::store::{Store, Write};

/// Changes in one entry.
const CHANGES_OF_ONE_ENTRY: usize = 500;
/// Wait before it is asked again what became of a write.
const RETRY: Duration = Duration::from_millis(200);

/// What became of a plan.
pub(super) struct Finished {
    pub(super) key: Key,
    /// How many changes were applied for certain.
    pub(super) changes: u64,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) result: Result<(), ApiError>,
}

/// Where plans are proposed: this manager's store, or a test's.
pub(super) trait Proposed {
    fn propose(&self, write: Write) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Waits until what was proposed before in this term is decided.
    fn settle(&self, term: u64) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl Proposed for Store {
    async fn propose(&self, write: Write) -> Result<(), ApiError> {
        Self::propose(self, write).await.map(drop)
    }

    async fn settle(&self, term: u64) -> Result<(), ApiError> {
        Self::settle(self, term).await.map(drop)
    }
}

/// Proposes a plan, in several entries when it is large: each is whole in itself, and what a refused one leaves
/// open is planned again.
///
/// Ends when everything that was proposed is decided, however long that takes: the next plan of the key has to know of it, or both
/// together would take down more of a service at a time, or begin more of a job, than may be.
pub(super) async fn propose(store: impl Proposed, term: u64, key: Key, plan: Plan) -> Finished {
    let mut changes = 0;
    let mut result = Ok(());
    let wake_at = plan.wake_at;
    for part in plan.into_batches(CHANGES_OF_ONE_ENTRY) {
        let count = part.len() as u64;
        let write = Write { term, ..Write::internal(key.loop_name(), part) };
        match store.propose(write).await {
            Ok(()) => changes += count,
            Err(error) => {
                if error.reason == Reason::OutcomeUnknown {
                    settle(&store, term).await;
                }
                result = Err(error);
                break;
            }
        }
    }
    Finished { key, changes, wake_at, result }
}

/// Tries until it knows. Where this manager no longer leads it never does; but then nobody waits.
async fn settle(store: &impl Proposed, term: u64) {
    while store.settle(term).await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use coracle_manager_core::Change;
    use coracle_model::id::TaskId;

    use super::*;

    /// Answers as it was told to, and remembers what it was asked.
    #[derive(Clone)]
    struct Fake(Arc<Mutex<Talk>>);

    struct Talk {
        answers: VecDeque<Result<(), Reason>>,
        asked: Vec<&'static str>,
    }

    impl Fake {
        fn answering(answers: impl IntoIterator<Item = Result<(), Reason>>) -> Self {
            Self(Arc::new(Mutex::new(Talk { answers: answers.into_iter().collect(), asked: Vec::new() })))
        }

        fn answer(&self, what: &'static str) -> Result<(), ApiError> {
            let mut talk = self.0.lock().unwrap();
            talk.asked.push(what);
            talk.answers.pop_front().unwrap().map_err(|reason| ApiError::new(reason, "as told"))
        }

        fn asked(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().asked.clone()
        }
    }

    impl Proposed for Fake {
        async fn propose(&self, _: Write) -> Result<(), ApiError> {
            self.answer("propose")
        }

        async fn settle(&self, _: u64) -> Result<(), ApiError> {
            self.answer("settle")
        }
    }

    fn plan_of(changes: usize) -> Plan {
        let change = Change::RemoveTask { task: TaskId::from_bits(1) };
        Plan { changes: vec![change; changes], ..Plan::default() }
    }

    #[tokio::test]
    async fn a_plan_is_under_way_until_it_is_known_what_became_of_it() {
        let unknown = Err(Reason::OutcomeUnknown);
        let store = Fake::answering([unknown, unknown, Ok(())]);
        let finished = propose(store.clone(), 1, Key::Schedule, plan_of(1)).await;
        assert_eq!(store.asked(), ["propose", "settle", "settle"]);
        assert_eq!(finished.result.unwrap_err().reason, Reason::OutcomeUnknown);
        assert_eq!(finished.changes, 0);
    }

    #[tokio::test]
    async fn what_is_known_is_not_asked_for_and_the_rest_of_a_refused_plan_is_not_proposed() {
        let store = Fake::answering([Ok(()), Err(Reason::Stale)]);
        let finished = propose(store.clone(), 1, Key::Schedule, plan_of(3 * CHANGES_OF_ONE_ENTRY)).await;
        assert_eq!(store.asked(), ["propose", "propose"]);
        assert_eq!((finished.result.unwrap_err().reason, finished.changes), (Reason::Stale, 500));
    }
}
