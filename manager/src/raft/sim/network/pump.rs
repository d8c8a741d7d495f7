//! Streams: pieces arrive in order, each after its delay; when the way is cut they stand still, and in the end fail.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use openraft::AsyncRuntime as _;
use openraft::async_runtime::Select2;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

use super::{KEEP_ALIVE, Network, lock};
use crate::raft::sim::runtime::{Clockwork, now, sleep};

/// Pieces under way on one connection.
const WINDOW: usize = 16;

/// How often a connection that is cut looks again.
const LOOK: Duration = Duration::from_millis(50);

enum Content {
    Frame(Frame<Bytes>),
    End,
    Failed(Status),
}

/// Something under way, and when it arrives.
struct Piece(Duration, Content);

impl Network {
    /// The other end of a body; to be called by the one who sends it.
    pub(super) fn pump(&self, from: u64, to: u64, counted: bool, body: Body) -> Body {
        let (sender, receiver) = mpsc::channel(WINDOW);
        drop(Clockwork::spawn(self.clone().run_pump(from, to, counted, body, sender)));
        Body::new(StreamBody::new(stream::unfold(Some((receiver, self.clone(), from, to)), arrive)))
    }

    async fn run_pump(self, from: u64, to: u64, counted: bool, mut body: Body, sender: mpsc::Sender<Piece>) {
        let mut last = now();
        loop {
            let content = match Clockwork::select2(body.frame(), self.noticed_end(from, to, &sender)).await {
                Select2::First(Some(Ok(frame))) => Content::Frame(frame),
                Select2::First(Some(Err(status))) => Content::Failed(status),
                Select2::First(None) => Content::End,
                Select2::Second(()) => return,
            };
            let over = !matches!(content, Content::Frame(_));
            if counted && !over {
                *lock(&self.0).calls.entry("Message".to_owned()).or_default() += 1;
            }
            if !self.passable(from, to).await {
                let _ = sender.send(Piece(now(), Content::Failed(Status::unavailable("timed out")))).await;
                // Nobody told the sender; it goes on until its own limits end it.
                sleep(KEEP_ALIVE).await;
                return;
            }
            last = last.max(now() + self.delay(from, to));
            if sender.send(Piece(last, content)).await.is_err() || over {
                return;
            }
        }
    }

    /// Resolves when the receiver is gone and word of that gets through.
    async fn noticed_end(&self, from: u64, to: u64, sender: &mpsc::Sender<Piece>) {
        sender.closed().await;
        while self.is_dark(to, from) {
            sleep(LOOK).await;
        }
    }

    /// Waits until the way is open; `false` when that takes too long.
    async fn passable(&self, from: u64, to: u64) -> bool {
        let until = now() + KEEP_ALIVE;
        while self.is_dark(from, to) {
            if now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

type Receiving = Option<(mpsc::Receiver<Piece>, Network, u64, u64)>;

async fn arrive(receiving: Receiving) -> Option<(Result<Frame<Bytes>, Status>, Receiving)> {
    let (mut receiver, network, from, to) = receiving?;
    let Some(Piece(at, content)) = receiver.recv().await else {
        // The process that sent is no more; its machine says so, if it is there.
        if network.is_dark(from, to) {
            sleep(KEEP_ALIVE).await;
        }
        return Some((Err(Status::unavailable("connection reset")), None));
    };
    sleep(at.saturating_sub(now())).await;
    match content {
        Content::Frame(frame) => Some((Ok(frame), Some((receiver, network, from, to)))),
        Content::End => None,
        Content::Failed(status) => Some((Err(status), None)),
    }
}
