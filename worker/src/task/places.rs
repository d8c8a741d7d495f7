//! Places for making and starting containers: a few at a time, without those that hang holding up the others.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::runner::blocking;

/// Far longer than making or starting a container takes that does not hang, as one does whose bind has its source on a network
/// file system without a server.
const PATIENCE: Duration = Duration::from_secs(5);
/// Work that hangs and has no place any more, at most. Each has a thread and about a megabyte.
const ASIDE: usize = 64;

/// Who may work at the moment.
#[derive(Debug)]
pub(crate) struct Places {
    places: Semaphore,
    aside: Semaphore,
    patience: Duration,
}

impl Places {
    /// So many places.
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), aside: Semaphore::new(ASIDE), patience: PATIENCE }
    }

    /// Does work that may block, on a thread, as soon as there is a place; nothing if it panicked. Work that takes long steps
    /// aside, where there is room, and goes on without its place.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphores are never closed.
        let place = self.places.acquire().await;
        let mut work = pin!(blocking(work));
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = sleep(self.patience) => {}
        }
        let _aside = tokio::select! {
            biased;
            result = &mut work => return result,
            aside = self.aside.acquire() => aside,
        };
        drop(place);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use futures::poll;
    use tokio::task::JoinHandle;

    use super::*;

    /// Work that hangs until it is told to go on.
    fn hanging(places: &Arc<Places>) -> (mpsc::Sender<()>, JoinHandle<Option<()>>) {
        let (go_on, told) = mpsc::channel::<()>();
        let places = Arc::clone(places);
        // An error is word enough: whoever could tell is gone.
        let work = async move { places.work(move || told.recv().unwrap_or_default()).await };
        (go_on, tokio::spawn(work))
    }

    fn places(places: usize, aside: usize) -> Arc<Places> {
        let patience = Duration::from_millis(1);
        Arc::new(Places { places: Semaphore::new(places), aside: Semaphore::new(aside), patience })
    }

    /// What is due, or a failure.
    async fn due<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), future).await.expect("not in time")
    }

    async fn until(condition: impl Fn() -> bool) {
        due(async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn what_hangs_holds_up_others_only_for_a_while() {
        let places = places(1, 2);
        let hanging: Vec<_> = (0..2).map(|_| hanging(&places)).collect();
        until(|| places.aside.available_permits() == 0).await;
        assert_eq!(due(places.work(|| 7)).await, Some(7));
        for (go_on, work) in hanging {
            drop(go_on);
            assert_eq!(due(work).await.unwrap(), Some(()));
        }
        assert_eq!((places.aside.available_permits(), places.places.available_permits()), (2, 1));
    }

    #[tokio::test]
    async fn so_many_hang_at_most() {
        let places = places(1, 1);
        let (first, second) = (hanging(&places), hanging(&places));
        until(|| places.aside.available_permits() + places.places.available_permits() == 0).await;
        let mut other = pin!(places.work(|| 7));
        assert!(poll!(&mut other).is_pending(), "there is no place");
        drop(first.0);
        assert_eq!(due(other).await, Some(7));
        drop(second.0);
        due(second.1).await.unwrap();
    }
}
