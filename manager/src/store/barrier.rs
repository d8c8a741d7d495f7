//! Read barriers, shared: however many reads wait, at most one confirmation of leadership is under way.
//!
//! A read may use a confirmation only if that began after the read did, since a confirmation covers what was acknowledged
//! before it began. So reads that come while one is under way wait for the next, all of them for the same.
//!
//! Why not a lease, which would confirm nothing: a follower counts its trust in a leader on its own clock, so a leader that
//! reads by a lease must know that no follower's clock runs faster than its own by more than some bound, also while a virtual
//! machine is paused or moved. Nothing here could check that, and one confirmation for all reads that wait costs little.

use std::future::Future;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_proto::status::{ApiError, Reason};
use tokio::sync::oneshot;

type Answer = Result<(), ApiError>;

/// Readers that wait for a confirmation; a clone is another handle to the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Barriers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Those that the next confirmation answers.
    next: Vec<oneshot::Sender<Answer>>,
    /// Whether a task confirms at present, and will look for others before it ends.
    confirming: bool,
}

impl Barriers {
    /// Waits for a confirmation that begins after this call. Safe to cancel: the others are still answered.
    ///
    /// # Errors
    /// What `confirm` gave.
    pub(super) async fn pass<F, C>(&self, confirm: C) -> Answer
    where
        F: Future<Output = Answer> + Send + 'static,
        C: Fn() -> F + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let begin = {
            let mut waiting = self.lock();
            waiting.next.push(sender);
            !mem::replace(&mut waiting.confirming, true)
        };
        if begin {
            tokio::spawn(self.clone().confirm_all(confirm));
        }
        let stopped = || ApiError::new(Reason::Unavailable, "this manager is shutting down");
        receiver.await.map_err(|_| stopped())?
    }

    async fn confirm_all<F, C>(self, confirm: C)
    where
        F: Future<Output = Answer> + Send + 'static,
        C: Fn() -> F + Send + 'static,
    {
        while let Some(readers) = self.take() {
            let answer = confirm().await;
            for reader in readers {
                // A reader that gave up is no error.
                let _ = reader.send(answer.clone());
            }
        }
    }

    /// Those that the confirmation which begins now answers; nothing when nobody waits.
    fn take(&self) -> Option<Vec<oneshot::Sender<Answer>>> {
        let mut waiting = self.lock();
        waiting.next.retain(|reader| !reader.is_closed());
        waiting.confirming = !waiting.next.is_empty();
        waiting.confirming.then(|| mem::take(&mut waiting.next))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// A confirmation that waits until the test lets it end, and counts how often one began.
    #[derive(Clone)]
    struct Confirmations {
        begun: Arc<AtomicUsize>,
        end: Arc<Semaphore>,
    }

    impl Confirmations {
        fn new() -> Self {
            Self { begun: Arc::default(), end: Arc::new(Semaphore::new(0)) }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }

        fn reader(&self, barriers: &Barriers) -> tokio::task::JoinHandle<Answer> {
            let (barriers, own) = (barriers.clone(), self.clone());
            tokio::spawn(async move {
                barriers
                    .pass(move || {
                        let own = own.clone();
                        async move {
                            own.begun.fetch_add(1, Ordering::SeqCst);
                            own.end.acquire().await.unwrap().forget();
                            Ok(())
                        }
                    })
                    .await
            })
        }

        async fn until_begun(&self, count: usize) {
            let begun = async {
                while self.begun() < count {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), begun).await.expect("another confirmation begins");
        }
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn reads_that_come_meanwhile_share_the_next_confirmation_and_not_the_present_one() {
        let (barriers, confirmations) = (Barriers::default(), Confirmations::new());
        let first = confirmations.reader(&barriers);
        confirmations.until_begun(1).await;
        let others: Vec<_> = (0..10).map(|_| confirmations.reader(&barriers)).collect();
        settle().await;
        assert_eq!(confirmations.begun(), 1);
        confirmations.end.add_permits(1);
        first.await.unwrap().unwrap();
        confirmations.until_begun(2).await;
        settle().await;
        assert!(others.iter().all(|reader| !reader.is_finished()), "answered by one that began before");
        confirmations.end.add_permits(1);
        for reader in others {
            reader.await.unwrap().unwrap();
        }
        assert_eq!(confirmations.begun(), 2);
    }

    #[tokio::test]
    async fn a_reader_that_gives_up_takes_nobody_with_it() {
        let (barriers, confirmations) = (Barriers::default(), Confirmations::new());
        let first = confirmations.reader(&barriers);
        confirmations.until_begun(1).await;
        let second = confirmations.reader(&barriers);
        settle().await;
        first.abort();
        confirmations.end.add_permits(2);
        second.await.unwrap().unwrap();
        let again = confirmations.reader(&barriers);
        confirmations.end.add_permits(1);
        again.await.unwrap().unwrap();
        assert_eq!(confirmations.begun(), 3);
    }
}
