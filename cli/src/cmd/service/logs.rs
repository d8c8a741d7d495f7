//! `coracle service logs`

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::Duration;

use coracle_proto::v1;

use crate::context::Context;
use crate::error::{self, StdoutError};
use crate::opt::{FlagError, duration};
use crate::output::{printable, time, words};

/// The stream number of the standard error.
const STANDARD_ERROR: u32 = 2;
/// Wait before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest line that is put together again; a longer one is shown in parts.
const LINE_LIMIT: usize = 1 << 20;

/// Flags of `service logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Last lines of each task, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_hyphen_values = true, value_parser = tail)]
    tail: i64,
    /// Only lines since a time (2026-01-31T12:00:00Z) or for a time (10m)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<u64>,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show the lines only, without the task that wrote them
    #[arg(long)]
    raw: bool,
    /// Show before each line which node, service and task it is from, by their ids
    #[arg(long)]
    details: bool,
    /// Show ids of services and nodes instead of their names
    #[arg(long)]
    no_resolve: bool,
    /// Leave out the tasks' ids
    #[arg(long)]
    no_task_ids: bool,
    /// Do not shorten the tasks' ids
    #[arg(long)]
    no_trunc: bool,
    /// Id, name or unique prefix of a service, or id of a task
    #[arg(value_name = "SERVICE|TASK")]
    target: String,
}

fn tail(text: &str) -> Result<i64, FlagError> {
    if text == "all" {
        return Ok(-1);
    }
    let refuse = || FlagError::new("tail", text, "use a number of lines, or all");
    if text == "-1" { Ok(-1) } else { text.parse::<u32>().map(i64::from).map_err(|_| refuse()) }
}

fn since(text: &str) -> Result<u64, FlagError> {
    if let Ok(ago) = duration::parse("since", text) {
        return Ok(time::now().saturating_sub(coracle_proto::convert::nanos(ago)));
    }
    let nanos =
        text.parse::<jiff::Timestamp>().ok().and_then(|point| u64::try_from(point.as_nanosecond()).ok());
    let seconds = || text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
    nanos.or_else(seconds).ok_or_else(|| {
        FlagError::new("since", text, "use a time such as 2026-01-31T12:00:00Z, or a duration such as 10m")
    })
}

/// Prints the lines until there are no more.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let request = v1::ServiceLogsRequest {
        target: args.target.clone(),
        follow: args.follow,
        tail: args.tail,
        since: args.since.unwrap_or(0),
    };
    let mut lines = Lines::new(&args);
    let mut next = request.clone();
    loop {
        let mut chunks = context.open(next, async |request| context.services().logs(request).await).await?;
        let end = loop {
            match chunks.message().await {
                Ok(Some(chunk)) => lines.take_all(chunk)?,
                Ok(None) => return Ok(lines.finish()?),
                Err(status) => break context.explain(&status),
            }
        };
        // Another manager leads, and knows the same lines.
        if !args.follow || !end.reason.may_be_repeated() {
            return Err(end.into());
        }
        tokio::time::sleep(PAUSE).await;
        next = lines.resume(request.clone());
    }
}

/// Parts of long lines are put together, so that lines of several tasks do not mix.
struct Lines<'a> {
    args: &'a Args,
    parts: HashMap<(String, u32), v1::ServiceLogLine>,
    /// The time of each task's last line that was shown.
    shown: HashMap<String, u64>,
    /// Which of them were shown before the stream broke off: they come again.
    before: HashMap<String, u64>,
}

impl<'a> Lines<'a> {
    fn new(args: &'a Args) -> Self {
        Self { args, parts: HashMap::new(), shown: HashMap::new(), before: HashMap::new() }
    }

    fn take_all(&mut self, chunk: v1::ServiceLogChunk) -> Result<(), StdoutError> {
        chunk.missing.iter().for_each(|missing| error::say(&format!("warning: {missing}")));
        chunk.lines.into_iter().try_for_each(|line| self.take(line))
    }

    /// The request that goes on where the stream broke off. Lines whose other parts did not come, come as a whole.
    fn resume(&mut self, request: v1::ServiceLogsRequest) -> v1::ServiceLogsRequest {
        self.parts.clear();
        self.before.clone_from(&self.shown);
        match self.shown.values().min() {
            Some(first) => v1::ServiceLogsRequest { since: request.since.max(*first), tail: -1, ..request },
            None => request,
        }
    }

    fn take(&mut self, line: v1::ServiceLogLine) -> Result<(), StdoutError> {
        if self.before.get(&line.task).is_some_and(|last| line.time <= *last) {
            return Ok(());
        }
        let key = (line.task.clone(), line.stream);
        let line = match self.parts.remove(&key) {
            Some(first) => {
                let text = [first.text.as_ref(), line.text.as_ref()].concat().into();
                v1::ServiceLogLine { text, partial: line.partial, ..first }
            }
            None => line,
        };
        if line.partial && line.text.len() < LINE_LIMIT {
            self.parts.insert(key, line);
            return Ok(());
        }
        self.shown.insert(line.task.clone(), line.time);
        self.write(&line)
    }

    fn finish(mut self) -> Result<(), StdoutError> {
        let rest = std::mem::take(&mut self.parts);
        rest.values().try_for_each(|line| self.write(line))
    }

    fn write(&self, line: &v1::ServiceLogLine) -> Result<(), StdoutError> {
        let mut text = self.prefix(line).into_bytes();
        text.extend_from_slice(&line.text);
        text.push(b'\n');
        if line.stream == STANDARD_ERROR {
            // The container's error stream is data, too; nobody reading it is no failure.
            let _ = io::stderr().lock().write_all(&text);
            return Ok(());
        }
        crate::output::write_bytes(&text)
    }

    fn prefix(&self, line: &v1::ServiceLogLine) -> String {
        let mut prefix = String::new();
        if self.args.timestamps {
            prefix.push_str(&time::rfc3339_nanos(line.time));
            prefix.push(' ');
        }
        if !self.args.raw {
            prefix.push_str(&printable(&self.origin(line)));
        }
        if self.args.details {
            let (node, service, task) = (&line.node, &line.service, &line.task);
            let details =
                format!("coracle.node.id={node},coracle.service.id={service},coracle.task.id={task} ");
            prefix.push_str(&printable(&details));
        }
        prefix
    }

    /// `web.1.3k1c…@worker-1 | `
    fn origin(&self, line: &v1::ServiceLogLine) -> String {
        let (service, node) = if self.args.no_resolve {
            (&line.service, &line.node)
        } else {
            (&line.service_name, &line.node_hostname)
        };
        let mut origin = format!("{service}.{}", words::slot(line.slot.as_ref()));
        if !self.args.no_task_ids {
            let shown = if self.args.no_trunc { usize::MAX } else { 12 };
            origin.push('.');
            origin.extend(line.task.chars().take(shown));
        }
        format!("{origin}@{node} | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_and_since_are_read() {
        assert_eq!((tail("all"), tail("7"), tail("-1")), (Ok(-1), Ok(7), Ok(-1)));
        assert!(tail("-2").is_err() && tail("x").is_err());
        assert_eq!(since("1970-01-01T00:00:02Z"), Ok(2_000_000_000));
        assert_eq!(since("7"), Ok(7_000_000_000));
        assert!(since("10m").unwrap() > 0);
        assert!(
            since("yesterday")
                .unwrap_err()
                .to_string()
                .starts_with("since: invalid value \"yesterday\": use")
        );
    }
}
