//! Containers by `coracle_agent_runtime`.

mod specification;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_agent_runtime::log::{LogEntry, LogOptions, LogReader, LogStream};
use coracle_agent_runtime::{
    ContainerId, ExecEnd, ExecSpec, Exit as RuntimeExit, ExitReason, Runtime, RuntimeError, Status,
};
use coracle_daemon::ErrorChain;
use coracle_model::health::OUTPUT_KEPT;
use coracle_model::id::TaskId;
use coracle_model::task::Exit;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::debug;

use self::specification::{NodeFiles, specification};
use super::containers::{ContainerError, Containers, Executed, Found, LogSource, Reality};
use crate::launch::{LABEL_STOP_SIGNAL, Launch};
use crate::logs::{Line, LogQuery};

/// SIGTERM, signal(7).
const SIGTERM: i32 = 15;

type Waiters = Arc<Mutex<HashMap<ContainerId, Vec<oneshot::Sender<Exit>>>>>;

/// The real runtime.
#[derive(Debug)]
pub struct RuntimeContainers {
    runtime: Arc<Runtime>,
    /// Who waits for which end; told by the runtime's watching thread.
    waiters: Waiters,
}

impl RuntimeContainers {
    /// Stands for the containers of `runtime`, all of which are tasks'.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Self {
        let waiters = Waiters::default();
        let told = Arc::clone(&waiters);
        runtime.subscribe(move |id, exit| tell(&told, id, end(exit)));
        Self { runtime, waiters }
    }
}

fn tell(waiters: &Waiters, id: &ContainerId, exit: Exit) {
    let waiting = waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    for waiter in waiting.into_iter().flatten() {
        // Who waited may have gone.
        let _ = waiter.send(exit);
    }
}

/// A task's id is 25 digits and letters, which every container id may be.
fn name(task: TaskId) -> Result<ContainerId, ContainerError> {
    task.to_string().parse().map_err(|error| ContainerError(format!("{error}")))
}

/// What the operator reads: the step that failed, without our own name for the container around it.
fn told(error: RuntimeError) -> ContainerError {
    match error {
        RuntimeError::Setup { failure, .. } => ContainerError(failure.to_string()),
        other => ContainerError(ErrorChain(&other).to_string()),
    }
}

fn end(exit: &RuntimeExit) -> Exit {
    match &exit.reason {
        ExitReason::Code(0) => Exit::Code(0),
        // The kernel kills a process of the container, and that may be another than the first one.
        ExitReason::Code(137) | ExitReason::Signal(9) if exit.oom_killed => Exit::OutOfMemory,
        ExitReason::Code(code) => Exit::Code(*code),
        ExitReason::Signal(signal) => Exit::Signal(*signal),
        ExitReason::SetupFailed(_) | ExitReason::Lost(_) => Exit::Unknown,
    }
}

fn reality(status: &Status) -> Reality {
    match status {
        Status::Unknown => Reality::Broken { why: String::new() },
        Status::Created => Reality::Created,
        Status::Running { pid, .. } => Reality::Running { pid: u32::try_from(*pid).unwrap_or(0) },
        Status::Exited(RuntimeExit { reason: ExitReason::SetupFailed(failure), .. }) => {
            Reality::Broken { why: failure.to_string() }
        }
        Status::Exited(RuntimeExit { reason: ExitReason::Lost(_), started_at: None, .. }) => {
            Reality::Broken { why: String::new() }
        }
        Status::Exited(exit) => Reality::Ended { exit: end(exit) },
    }
}

impl Containers for RuntimeContainers {
    fn create(&self, launch: &Launch) -> Result<(), ContainerError> {
        // Binds' sources are looked at by the container's own first process: one on a dead network file system
        // hangs that, and not a thread of this one.
        let spec = specification(launch, &NodeFiles::read())?;
        self.runtime.create(&name(launch.task)?, &spec).map_err(told)
    }

    fn start(&self, task: TaskId) -> Result<u32, ContainerError> {
        match self.runtime.start(&name(task)?).map_err(told)? {
            Status::Running { pid, .. } => Ok(u32::try_from(pid).unwrap_or(0)),
            // It has ended already, which whoever watches it will learn.
            _ => Ok(0),
        }
    }

    fn inspect(&self, task: TaskId) -> Reality {
        let status = name(task).ok().and_then(|id| self.runtime.status(&id).ok());
        status.as_ref().map_or(Reality::Absent, reality)
    }

    fn ask_to_stop(&self, task: TaskId) -> Result<(), ContainerError> {
        let id = name(task)?;
        let summary = match self.runtime.inspect(&id) {
            Ok(summary) => summary,
            Err(RuntimeError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(told(error)),
        };
        let signal =
            summary.labels.get(LABEL_STOP_SIGNAL).and_then(|signal| signal.parse().ok()).unwrap_or(SIGTERM);
        match self.runtime.signal(&id, signal) {
            Ok(()) | Err(RuntimeError::WrongState { .. } | RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    fn kill(&self, task: TaskId) -> Result<(), ContainerError> {
        match self.runtime.kill(&name(task)?) {
            Ok(()) | Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    fn execute(
        &self,
        task: TaskId,
        command: &[String],
        timeout: Duration,
    ) -> Result<Executed, ContainerError> {
        let mut spec = ExecSpec::new(command.to_vec(), timeout);
        spec.output_limit = u32::try_from(OUTPUT_KEPT).unwrap_or(spec.output_limit);
        let result = self.runtime.exec(&name(task)?, &spec).map_err(told)?;
        let (code, output) = match result.end {
            ExecEnd::Code(code) => (Some(code), result.output),
            // As shells tell it.
            ExecEnd::Signal(signal) => (Some(signal.saturating_add(128)), result.output),
            ExecEnd::TimedOut => {
                (None, format!("took longer than {}s: {}", timeout.as_secs_f64(), result.output))
            }
        };
        Ok(Executed { code, output })
    }

    fn delete(&self, task: TaskId) -> Result<(), ContainerError> {
        self.runtime.delete(&name(task)?).map_err(told)
    }

    fn recover(&self) -> Result<Vec<Found>, ContainerError> {
        self.runtime.recover().map_err(told)?;
        let of_task = |summary: coracle_agent_runtime::ContainerSummary| {
            let Ok(task) = summary.id.as_str().parse() else {
                debug!(container = %summary.id, "container is no task's and is left alone");
                return None;
            };
            Some(Found { task, reality: reality(&summary.status), labels: summary.labels })
        };
        Ok(self.runtime.list().into_iter().filter_map(of_task).collect())
    }

    fn wait(&self, task: TaskId) -> BoxFuture<'static, Exit> {
        let (sender, receiver) = oneshot::channel();
        let Ok(id) = name(task) else { return futures::future::ready(Exit::Unknown).boxed() };
        self.waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.clone())
            .or_default()
            .push(sender);
        // An end before that was told to nobody; one after it is told.
        let ended = match self.runtime.status(&id) {
            Ok(Status::Exited(exit)) => Some(end(&exit)),
            Ok(_) => None,
            Err(_) => Some(Exit::Unknown),
        };
        match ended {
            // Whoever waited before learns it too, should the watching thread not have told them.
            Some(exit) => {
                tell(&self.waiters, &id, exit);
                futures::future::ready(exit).boxed()
            }
            None => receiver.map(|exit| exit.unwrap_or(Exit::Unknown)).boxed(),
        }
    }

    fn open_log(&self, query: &LogQuery) -> Result<Box<dyn LogSource>, ContainerError> {
        let options = LogOptions {
            tail: usize::try_from(query.tail).ok(),
            since: (query.since > 0).then(|| rfc3339(query.since)),
        };
        let reader = LogReader::open(&query.directory, &options).map_err(not_read)?;
        Ok(Box::new(TaskLog { task: query.task, reader }))
    }
}

struct TaskLog {
    task: TaskId,
    reader: LogReader,
}

impl LogSource for TaskLog {
    fn next_line(&mut self) -> Result<Option<Line>, ContainerError> {
        let entry = self.reader.next_entry().map_err(not_read)?;
        Ok(entry.map(|entry| line(self.task, entry)))
    }
}

fn not_read(error: std::io::Error) -> ContainerError {
    ContainerError(error.to_string())
}

fn line(task: TaskId, entry: LogEntry) -> Line {
    let time = entry
        .time
        .parse::<jiff::Timestamp>()
        .map_or(0, |time| u64::try_from(time.as_nanosecond()).unwrap_or(0));
    let mut text = entry.text.into_bytes();
    let partial = text.last() != Some(&b'\n');
    if !partial {
        text.pop();
    }
    Line { task, time, is_error_stream: entry.stream == LogStream::Stderr, text: Bytes::from(text), partial }
}

/// In the format of log entries: nine digits after the second.
fn rfc3339(nanos: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_like_the_log_s() {
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
        let entry = LogEntry { text: "hello\n".into(), stream: LogStream::Stderr, time: rfc3339(42) };
        let line = line(TaskId::from_bits(1), entry);
        assert_eq!(
            (line.time, line.text.as_ref(), line.partial, line.is_error_stream),
            (42, &b"hello"[..], false, true)
        );
    }
}
