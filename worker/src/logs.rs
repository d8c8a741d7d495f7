//! Log lines that a manager asked for: read from the tasks' files, sent on a stream of their own.
//!
//! Everything is bounded: subscriptions, tasks of one, lines between the readers and the network. A slow manager slows
//! the readers, never the containers, which write to files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coracle_model::id::TaskId;
use coracle_proto::v1;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::adapters::containers::Containers;

/// Subscriptions served at a time.
const SUBSCRIPTIONS: usize = 32;
/// Tasks of one subscription; each is read by a thread of its own.
const TASKS: usize = 64;
/// Lines between readers and network.
const LINES: usize = 256;
/// Bytes of text in one message at most, after which a new one is begun.
const MESSAGE: usize = 64 * 1024;

/// What to read of one task's log.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Whose log.
    pub task: TaskId,
    /// Its folder.
    pub directory: PathBuf,
    /// Last lines; negative is all.
    pub tail: i64,
    /// Nanoseconds since 1970; only lines since then.
    pub since: u64,
    /// Go on with lines that come later.
    pub follow: bool,
    /// Cancelled when the task has ended: following stops at the end of the log.
    pub ended: CancellationToken,
}

/// One line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub task: TaskId,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Of the standard error, else of the standard output.
    pub is_error_stream: bool,
    /// Without the line's end.
    pub text: Bytes,
    /// The line goes on in the next one.
    pub partial: bool,
}

impl From<Line> for v1::LogLine {
    fn from(line: Line) -> Self {
        Self {
            task: line.task.to_string(),
            time: line.time,
            stream: if line.is_error_stream { 2 } else { 1 },
            text: line.text,
            partial: line.partial,
        }
    }
}

/// The subscriptions of one session; all end with it.
pub(crate) struct Subscriptions {
    containers: Arc<dyn Containers>,
    running: HashMap<String, DropGuard>,
    finished: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

impl Subscriptions {
    pub(crate) fn new(containers: Arc<dyn Containers>) -> Self {
        Self { containers, running: HashMap::new(), finished: mpsc::unbounded_channel() }
    }

    /// Begins to serve. One that is there already is not begun twice.
    pub(crate) fn begin(&mut self, id: String, queries: Vec<LogQuery>, manager: Channel) {
        while let Ok(done) = self.finished.1.try_recv() {
            self.running.remove(&done);
        }
        if self.running.len() >= SUBSCRIPTIONS {
            warn!(subscription = %id, limit = SUBSCRIPTIONS, "log subscription is not served: too many at a time");
            return;
        }
        if self.running.contains_key(&id) {
            return;
        }
        let stop = CancellationToken::new();
        self.running.insert(id.clone(), stop.clone().drop_guard());
        let (containers, finished) = (Arc::clone(&self.containers), self.finished.0.clone());
        tokio::spawn(async move {
            publish(&id, queries, containers, manager, stop).await;
            // The session may be over.
            let _ = finished.send(id);
        });
    }

    /// Stops serving.
    pub(crate) fn cancel(&mut self, id: &str) {
        self.running.remove(id);
    }
}

async fn publish(
    id: &str,
    queries: Vec<LogQuery>,
    containers: Arc<dyn Containers>,
    manager: Channel,
    stop: CancellationToken,
) {
    let (sender, receiver) = mpsc::channel(4);
    let lines = read_all(queries, containers, &stop);
    let header = v1::LogChunk { subscription: id.to_owned(), lines: Vec::new() };
    // There is room for the first message.
    let _ = sender.send(header).await;
    let forward = forward(lines, sender);
    let mut client = DispatcherClient::new(manager);
    let call = client.publish_logs(ReceiverStream::new(receiver));
    // Dropping the call closes the stream; the readers end with the token.
    tokio::select! {
        () = stop.cancelled() => {}
        (_, answer) = async { tokio::join!(forward, call) } => {
            if let Err(status) = answer {
                debug!(subscription = %id, status = %status.message(), "log lines are no longer wanted");
            }
        }
    }
    stop.cancel();
}

/// Puts lines together into messages as they come, without waiting for more.
async fn forward(mut lines: mpsc::Receiver<Line>, chunks: mpsc::Sender<v1::LogChunk>) {
    while let Some(first) = lines.recv().await {
        let mut size = first.text.len();
        let mut batch = vec![v1::LogLine::from(first)];
        while size < MESSAGE {
            let Ok(line) = lines.try_recv() else { break };
            size += line.text.len();
            batch.push(line.into());
        }
        let chunk = v1::LogChunk { subscription: String::new(), lines: batch };
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

fn read_all(
    mut queries: Vec<LogQuery>,
    containers: Arc<dyn Containers>,
    stop: &CancellationToken,
) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES);
    queries.truncate(TASKS);
    for query in queries {
        let (containers, sender, stop) = (Arc::clone(&containers), sender.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = containers.read_log(&query, &sender, &stop) {
                warn!(task = %query.task, %error, "log was not read");
            }
        });
    }
    receiver
}
