//! Heartbeats over one long stream: a call for each would cost a leader with nothing else to do most of its time.
//!
//! The stream is opened beside heartbeats that go as single calls, and given up at the first sign of trouble: whatever is
//! wrong, the next heartbeat is a call of its own again, and needs nothing of what was before.

use coracle_proto::v1;
use coracle_proto::v1::raft_transport_client::RaftTransportClient;
use openraft::AsyncRuntime as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::Transport;
use crate::raft::platform::Platform;
use crate::raft::settings::STALL;

/// A stream on which every request so far was answered.
#[derive(Debug)]
pub(super) struct Heartbeats {
    requests: mpsc::Sender<v1::RaftAppendRequest>,
    answers: Streaming<v1::RaftAppendResponse>,
}

/// The way of heartbeats to one peer.
#[derive(Debug, Default)]
pub(super) struct Line {
    stream: Option<Heartbeats>,
    opening: Option<oneshot::Receiver<Heartbeats>>,
    /// Heartbeats to go before another stream is opened.
    pause: u32,
}

/// Heartbeats between a stream that could not be opened and the next try: the peer may be of a version without.
const PAUSE: u32 = 50;

impl Line {
    /// The stream, for one exchange. Whoever stops waiting for the answer drops it: its next one would be to an older request.
    pub(super) fn take(&mut self) -> Option<Heartbeats> {
        match self.opening.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(stream)) => {
                self.opening = None;
                return Some(stream);
            }
            Some(Err(oneshot::error::TryRecvError::Closed)) => (self.opening, self.pause) = (None, PAUSE),
            Some(Err(oneshot::error::TryRecvError::Empty)) | None => {}
        }
        self.stream.take()
    }

    /// After an exchange: keeps the stream that it used. If it used none, begins to open one.
    pub(super) fn keep_or_open<P: Platform>(
        &mut self,
        stream: Option<Heartbeats>,
        mut client: RaftTransportClient<Transport>,
    ) {
        self.stream = stream;
        if self.stream.is_some() || self.opening.is_some() {
            return;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let (opened, opening) = oneshot::channel();
        self.opening = Some(opening);
        drop(P::Runtime::spawn(async move {
            let (requests, receiver) = mpsc::channel(1);
            let open = client.heartbeats(ReceiverStream::new(receiver));
            if let Ok(Ok(answers)) = P::Runtime::timeout(STALL, open).await {
                // Whoever wanted it may be gone.
                let _ = opened.send(Heartbeats { requests, answers: answers.into_inner() });
            }
        }));
    }
}

/// Sends a request and waits for its answer, on the stream if there is one that works.
pub(super) async fn exchange(
    mut client: RaftTransportClient<Transport>,
    stream: Option<Heartbeats>,
    request: v1::RaftAppendRequest,
) -> Result<Response<(Option<Heartbeats>, v1::RaftAppendResponse)>, Status> {
    if let Some(mut stream) = stream
        && stream.requests.send(request.clone()).await.is_ok()
        && let Ok(Some(answer)) = stream.answers.message().await
    {
        return Ok(Response::new((Some(stream), answer)));
    }
    Ok(Response::new((None, client.heartbeat(request).await?.into_inner())))
}
