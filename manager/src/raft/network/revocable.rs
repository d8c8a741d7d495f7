//! A stream that can be taken back from whoever polls it.
//!
//! openraft's request stream holds a lock of its replication task while it waits for new entries. An HTTP/2 client goes
//! on polling the request after its caller has dropped the answers, until the peer resets the stream; a peer that is
//! gone or stopped may never do that, and the replication task would wait for its own lock for ever. So whoever drops
//! the answers takes the requests back first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;

type Inner<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

struct Shared<T> {
    stream: Option<Inner<T>>,
    waker: Option<Waker>,
}

/// The stream; ends once it was revoked.
pub(super) struct Revocable<T>(Arc<Mutex<Shared<T>>>);

/// Revokes the stream when dropped.
pub(super) struct Owner<T>(Arc<Mutex<Shared<T>>>);

/// Makes a stream revocable.
pub(super) fn revocable<T>(stream: impl Stream<Item = T> + Send + 'static) -> (Owner<T>, Revocable<T>) {
    let shared = Arc::new(Mutex::new(Shared { stream: Some(Box::pin(stream)), waker: None }));
    (Owner(shared.clone()), Revocable(shared))
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Stream for Revocable<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = lock(&self.0);
        shared.waker = Some(context.waker().clone());
        match &mut shared.stream {
            Some(stream) => stream.as_mut().poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        let (stream, waker) = {
            let mut shared = lock(&self.0);
            (shared.stream.take(), shared.waker.take())
        };
        drop(stream);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_revoked_stream_is_dropped_and_ends() {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (owner, mut stream) = revocable(tokio_stream::wrappers::ReceiverStream::new(receiver));
        sender.send(1).await.unwrap();
        assert_eq!(stream.next().await, Some(1));
        let waiting = tokio::task::spawn(async move { (stream.next().await, stream) });
        drop(owner);
        let (next, _stream) = waiting.await.unwrap();
        assert_eq!(next, None);
        assert!(sender.is_closed(), "the inner stream is gone although the outer one is not");
    }
}
