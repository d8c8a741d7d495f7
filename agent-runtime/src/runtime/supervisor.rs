//! The conversation with one supervisor.

use crate::directory::ContainerDirectory;
use crate::error::{IoContext, RuntimeError};
use crate::id::ContainerId;
use crate::program::{Program, memory_file};
use coracle_runtime_protocol::{CONTROL_SOCKET, Plan, REPLY_BYTES, Reply, Report, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A supervisor answers at once, except that executing a program may have to read it from a slow disk.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How often a request is made whose conversation breaks off.
const ASK_ATTEMPTS: u32 = 3;
/// Longest report.
const ANSWER_BYTES: u64 = 64 * 1024;

fn failed(id: &ContainerId, why: impl Into<String>) -> RuntimeError {
    RuntimeError::Supervisor { id: id.clone(), why: why.into() }
}

/// Starts a supervisor. Returns its process descriptor and the pipe on which it reports.
pub(super) fn spawn(
    id: &ContainerId,
    program: &Program,
    plan: &Plan,
) -> Result<(OwnedFd, OwnedFd), RuntimeError> {
    let text = serde_json::to_vec(plan).map_err(|error| failed(id, format!("encoding its plan: {error}")))?;
    let plan = memory_file("coracle-plan", MemfdFlags::NOEXEC_SEAL, &text)?;
    let (answer, report) = pipe_with(PipeFlags::CLOEXEC).doing("creating", Path::new("pipe"))?;
    let mut child = Command::new(program.path())
        .arg0("coracle-supervisor")
        .arg(id.as_str())
        .env_clear()
        .envs(coracle_crash_point::wish())
        .stdin(Stdio::from(plan))
        .stdout(Stdio::from(report))
        .stderr(Stdio::null())
        .spawn()
        .doing("executing", &program.path())?;
    // Not waited for yet, so the number is still this child's.
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| failed(id, "it has no process id"))?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Ok((process, answer)),
        Err(error) => {
            // Without a descriptor nobody would ever see its end.
            let _ = child.kill();
            let _ = child.wait();
            Err(error).doing("opening", Path::new("pidfd"))
        }
    }
}

/// Paths of the host that setting a container up depends on: what may hang.
#[derive(Debug, Default)]
pub(super) struct Suspects<'a> {
    /// What is mounted.
    pub(super) sources: Vec<&'a Path>,
    /// Programs that are run.
    pub(super) hooks: Vec<&'a Path>,
}

/// Reads the one report of a new supervisor.
pub(super) fn read_report(
    id: &ContainerId,
    answer: OwnedFd,
    patience: Duration,
    suspects: &Suspects<'_>,
) -> Result<Report, RuntimeError> {
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    let mut piece = [0_u8; 4096];
    while !text.ends_with(b"\n") {
        if !readable(answer.as_fd(), deadline) {
            return Err(failed(id, overdue(patience, suspects)));
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(&answer, &mut piece)) {
            Ok(0) => return Err(failed(id, "it ended without a report")),
            Ok(length) if text.len() as u64 <= ANSWER_BYTES => text.extend_from_slice(&piece[..length]),
            Ok(_) => return Err(failed(id, "its report is too long")),
            Err(error) => return Err(failed(id, format!("reading its report: {error}"))),
        }
    }
    serde_json::from_slice(&text).map_err(|error| failed(id, format!("its report is unreadable: {error}")))
}

fn overdue(patience: Duration, suspects: &Suspects<'_>) -> String {
    let mut text = format!("it did not finish setting up within {patience:?}");
    let groups = [
        (&suspects.sources, "see whether the file systems answer on which the sources of its mounts are"),
        (&suspects.hooks, "see whether these programs, which its devices need run, can be executed and end"),
    ];
    let mut mark = ": ";
    for (paths, advice) in groups.into_iter().filter(|(paths, _)| !paths.is_empty()) {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let _ = write!(text, "{mark}{advice}: {}", paths.join(", "));
        mark = "; ";
    }
    text
}

/// One request and its reply. Both requests may be made twice: a container that runs is not started again, and a signal
/// says the same a second time. So a conversation that broke off is begun anew.
pub(super) fn ask(
    id: &ContainerId,
    directory: &ContainerDirectory,
    request: &Request,
) -> Result<Reply, RuntimeError> {
    let mut attempt = 1;
    loop {
        match exchange(directory, request, ANSWER_PATIENCE) {
            Err(error) if attempt < ASK_ATTEMPTS && broke_off(&error) => {
                tracing::warn!(container = %id, %error, attempt, "a supervisor did not answer, asking again");
            }
            result => return result.map_err(|error| failed(id, format!("talking to it: {error}"))),
        }
        attempt += 1;
    }
}

/// One request that may not be made twice, and its reply, for which so much time is given on top of the usual.
pub(super) fn ask_once(
    id: &ContainerId,
    directory: &ContainerDirectory,
    request: &Request,
    patience: Duration,
) -> Result<Reply, RuntimeError> {
    exchange(directory, request, ANSWER_PATIENCE.saturating_add(patience))
        .map_err(|error| failed(id, format!("talking to it: {error}")))
}

/// Whether the supervisor may be alive and have missed the request, or we its reply.
fn broke_off(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::WouldBlock
            | ErrorKind::TimedOut
    )
}

fn exchange(directory: &ContainerDirectory, request: &Request, patience: Duration) -> io::Result<Reply> {
    // Through a descriptor, because the path of a socket may have 107 bytes only.
    let run = File::open(&directory.run)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", run.as_raw_fd()))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut reply = String::new();
    BufReader::new((&stream).take(REPLY_BYTES)).read_line(&mut reply)?;
    if !reply.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without a reply"));
    }
    Ok(serde_json::from_str(&reply)?)
}

/// Waits for a process to end, and reaps it if it is our child. Returns whether it ended.
pub(super) fn wait_for_end(process: BorrowedFd<'_>, patience: Duration) -> bool {
    let ended = readable(process, Instant::now() + patience);
    if ended {
        reap(process);
    }
    ended
}

/// Reaps a supervisor that ended. One that an earlier daemon started is somebody else's child, which is no error.
pub(super) fn reap(process: BorrowedFd<'_>) {
    let _ = rustix::process::waitid(WaitId::PidFd(process), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

fn readable(descriptor: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(_) => {}
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Serves so many connections, of which only the last gets a reply.
    fn asked(connections: u32) -> Result<Reply, RuntimeError> {
        let place = tempfile::tempdir().unwrap();
        let id: ContainerId = "one".parse().unwrap();
        let directory = ContainerDirectory::new(&place.path().join("s"), place.path(), &id);
        std::fs::create_dir(&directory.run).unwrap();
        let listener = UnixListener::bind(directory.run.join(CONTROL_SOCKET)).unwrap();
        let server = std::thread::spawn(move || {
            for connection in 1..=connections {
                let (client, _) = listener.accept().unwrap();
                BufReader::new(&client).read_line(&mut String::new()).unwrap();
                if connection == ASK_ATTEMPTS {
                    (&client).write_all(b"\"done\"\n").unwrap();
                }
            }
        });
        let reply = ask(&id, &directory, &Request::Signal { number: 15 });
        server.join().unwrap();
        reply
    }

    #[test]
    fn what_may_have_hung_is_told() {
        let patience = Duration::from_secs(60);
        let mut suspects = Suspects::default();
        assert_eq!(overdue(patience, &suspects), "it did not finish setting up within 60s");
        suspects.sources = vec![Path::new("/mnt/a"), Path::new("/srv/b")];
        suspects.hooks = vec![Path::new("/bin/hook")];
        assert_eq!(
            overdue(patience, &suspects),
            "it did not finish setting up within 60s: see whether the file systems answer on which the sources of its mounts \
             are: /mnt/a, /srv/b; see whether these programs, which its devices need run, can be executed and end: /bin/hook"
        );
    }

    #[test]
    fn asks_again_when_a_conversation_breaks_off() {
        assert_eq!(asked(ASK_ATTEMPTS).unwrap(), Reply::Done);
        // Then nobody listens any more, which is no reason to go on.
        asked(1).unwrap_err();
    }
}
