//! Log lines that a manager asked for: read from the tasks' files, sent on a stream of their own.
//!
//! Everything is bounded: subscriptions, lines between the readers and the network, threads that read at a time. A slow
//! manager slows the readers, never the containers, which write to files. A task whose log is followed costs no thread:
//! it is read in short jobs, and the waits between them are asynchronous.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_model::id::TaskId;
use coracle_proto::v1;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::adapters::containers::{ContainerError, Containers, LogSource};
use crate::task::runner::blocking;

/// Subscriptions served at a time.
const SUBSCRIPTIONS: usize = 32;
/// Logs read at a time by one session, so that many readers leave threads to whatever else blocks.
const READS: usize = 4;
/// Lines of one short read.
const BATCH: usize = 256;
/// Waits for more lines: longer while nothing comes.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(800));
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
    reads: Arc<Semaphore>,
    running: HashMap<String, DropGuard>,
    finished: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

impl Subscriptions {
    pub(crate) fn new(containers: Arc<dyn Containers>) -> Self {
        let reads = Arc::new(Semaphore::new(READS));
        Self { containers, reads, running: HashMap::new(), finished: mpsc::unbounded_channel() }
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
        let (sender, lines) = mpsc::channel(LINES);
        for query in queries {
            let reading =
                Reading { query, containers: Arc::clone(&self.containers), reads: self.reads.clone() };
            tokio::spawn(reading.run(sender.clone(), stop.clone()));
        }
        let finished = self.finished.0.clone();
        tokio::spawn(async move {
            publish(&id, lines, manager, stop).await;
            // The session may be over.
            let _ = finished.send(id);
        });
    }

    /// Stops serving.
    pub(crate) fn cancel(&mut self, id: &str) {
        self.running.remove(id);
    }
}

async fn publish(id: &str, lines: mpsc::Receiver<Line>, manager: Channel, stop: CancellationToken) {
    let (sender, receiver) = mpsc::channel(4);
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

/// The reading of one task's log.
struct Reading {
    query: LogQuery,
    containers: Arc<dyn Containers>,
    reads: Arc<Semaphore>,
}

impl Reading {
    /// Reads until the log is served, nobody receives any more, or `stop`.
    async fn run(self, lines: mpsc::Sender<Line>, stop: CancellationToken) {
        let task = self.query.task;
        // What is under way on a thread ends by itself, soon.
        let read = stop.run_until_cancelled(self.read(&lines)).await;
        if let Some(Err(error)) = read {
            warn!(%task, %error, "log was not read");
        }
    }

    async fn read(&self, lines: &mpsc::Sender<Line>) -> Result<(), ContainerError> {
        let (containers, query) = (Arc::clone(&self.containers), self.query.clone());
        let mut source = self.job(move || containers.open_log(&query)).await?;
        let mut wait = WAIT.0;
        loop {
            // Looked at before reading: what was written before the end is read after it.
            let last_round = !self.query.follow || self.query.ended.is_cancelled();
            let (batch, read_on) = self.job(move || read_batch(source)).await?;
            source = read_on;
            if batch.is_empty() {
                if last_round {
                    return Ok(());
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
                    () = self.query.ended.cancelled() => {}
                    () = lines.closed() => return Ok(()),
                }
                continue;
            }
            wait = WAIT.0;
            for line in batch {
                if lines.send(line).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// A short job on a thread, of which there are few at a time.
    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
    ) -> Result<T, ContainerError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let done = blocking(move || {
            // Held by the job and not by who waits for it, who may be gone.
            let _permit = permit;
            work()
        });
        done.await.unwrap_or_else(|| Err(ContainerError("reading it panicked, which is a bug".to_owned())))
    }
}

/// What there is now, up to a limit in lines and in bytes.
fn read_batch(mut source: Box<dyn LogSource>) -> Result<(Vec<Line>, Box<dyn LogSource>), ContainerError> {
    let (mut batch, mut size) = (Vec::new(), 0);
    while batch.len() < BATCH && size < MESSAGE {
        let Some(line) = source.next_line()? else { break };
        size += line.text.len();
        batch.push(line);
    }
    Ok((batch, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::FakeContainers;

    /// More followers than the machine gives threads to work that blocks.
    #[test]
    fn followers_hold_no_threads() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            const FOLLOWERS: u32 = 200;
            let (sender, mut lines) = mpsc::channel(LINES);
            let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
            let containers: Arc<dyn Containers> = FakeContainers::new();
            let reads = Arc::new(Semaphore::new(READS));
            for task in 0..FOLLOWERS {
                let query = LogQuery {
                    task: TaskId::from_bits(task.into()),
                    directory: PathBuf::new(),
                    tail: -1,
                    since: 0,
                    follow: true,
                    ended: ended.clone(),
                };
                let reading = Reading { query, containers: containers.clone(), reads: reads.clone() };
                tokio::spawn(reading.run(sender.clone(), stop.clone()));
            }
            drop(sender);
            let limit = Duration::from_secs(20);
            for _ in 0..2 * FOLLOWERS {
                tokio::time::timeout(limit, lines.recv()).await.unwrap().unwrap();
            }
            assert_eq!(tokio::time::timeout(limit, blocking(|| 7)).await.unwrap(), Some(7));
            ended.cancel();
            assert!(tokio::time::timeout(limit, lines.recv()).await.unwrap().is_none());
            stop.cancel();
        });
    }
}
