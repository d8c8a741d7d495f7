//! Runs one hook: a program of the host that is told of the container and may change its mounts and files.
//!
//! Those of the container's namespaces are run by init, those of the host's by the supervisor, whom init asks for them.
//! Nothing that one leaves running goes on: the group of a hook ends with it, and [`sweep`] ends what made a group of its own.

use crate::error::{CallError, InCall};
use crate::init::{c_string, c_strings};
use crate::supervise::{output_pipe, reap};
use crate::sync::KILLED;
use crate::time::left_until;
use crate::{sweep, sys};
use coracle_runtime_protocol::{FailureKind, Hook, HookPlace, HookState, Outcome, Plan, errno_name};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitIdOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most bytes of what a hook wrote that are told when it fails. The last ones: that is where programs say why.
const SAID_BYTES: usize = 600;

/// How often a supervisor looks for what a hook left while it runs.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The time that all hooks of a container have together, counted from the beginning of setting it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    until: Instant,
    whole: Duration,
}

impl Budget {
    pub(crate) fn begin(plan: &Plan) -> Self {
        let whole = Duration::from_millis(plan.hooks_milliseconds);
        Self { until: Instant::now() + whole, whole }
    }
}

/// What a supervisor runs hooks of the host with.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    /// Process id of init.
    pub(crate) init: i32,
    /// Process descriptor of init. A hook of a container that is gone ends too.
    pub(crate) process: BorrowedFd<'a>,
    pub(crate) budget: Budget,
}

impl Host<'_> {
    /// Runs it, and ends all that it leaves running. The root is mounted for init only, so that the path by which init knows
    /// it is an empty folder of the host: the hook is told a path that leads through init.
    pub(crate) fn run(&self, hook: &Hook) -> Result<(), CallError> {
        let root = PathBuf::from(format!("/proc/{}/root{}", self.init, hook.state.root.display()));
        let bundle = bundle_of_host(&hook.state.bundle, &root)?;
        let state = HookState { pid: self.init, root, bundle, ..hook.state.clone() };
        let result = run(hook, &state, self.budget, Some(self));
        let swept = sweep::end_children(self.init);
        result.and(swept)
    }
}

/// Runs one in the namespaces of the container, that is, as a child of init, whose root is still the host's.
pub(crate) fn run_inside(hook: &Hook, budget: Budget) -> Result<(), CallError> {
    let state = HookState { pid: own_process()?, ..hook.state.clone() };
    run(hook, &state, budget, None)
}

/// Our process id as the host sees it, for as long as the host's procfs is in place.
fn own_process() -> Result<i32, CallError> {
    let link = || "readlink(\"/proc/self\")".to_owned();
    let name = rustix::fs::readlink("/proc/self", Vec::new()).in_call(link)?;
    name.to_str()
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| CallError::refused(FailureKind::Other, "/proc/self is no process"))
}

/// A bundle beside that of the hooks that are run inside: the same configuration with another root.
fn bundle_of_host(bundle: &Path, root: &Path) -> Result<PathBuf, CallError> {
    let own = bundle.join("host");
    match rustix::fs::mkdir(&own, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        result => result.in_call(|| format!("mkdir({own:?})"))?,
    }
    let file = bundle.join("config.json");
    let text = std::fs::read(&file).in_call(|| format!("read({file:?})"))?;
    let mut configuration: serde_json::Value =
        serde_json::from_slice(&text).map_err(std::io::Error::from).in_call(|| format!("read({file:?})"))?;
    if let Some(path) = configuration.pointer_mut("/root/path") {
        *path = root.display().to_string().into();
    }
    let file = own.join("config.json");
    std::fs::write(&file, configuration.to_string()).in_call(|| format!("write({file:?})"))?;
    Ok(own)
}

/// Runs it to its end.
fn run(hook: &Hook, state: &HookState, budget: Budget, host: Option<&Host<'_>>) -> Result<(), CallError> {
    let text = serde_json::to_vec(state).map_err(std::io::Error::from).in_call(|| "its state".into())?;
    let (input, state_writer) = pipe_with(PipeFlags::CLOEXEC).in_call(|| "pipe2()".into())?;
    let (output, output_writer) = output_pipe().in_call(|| "pipe2()".into())?;
    let parent = rustix::process::getpid();
    let cloned = sys::clone_init(0, None).in_call(|| "clone3()".into())?;
    let sys::Cloned::Parent { pid, descriptor } = cloned else {
        drop((state_writer, output));
        become_program(hook, &state.bundle, parent, &input, &output_writer)
    };
    drop((input, output_writer));
    // Far less than a pipe holds, so this does not wait. One that does not read it is no error.
    let _ = rustix::io::write(&state_writer, &text);
    drop(state_writer);
    let mut said = Said::default();
    let own = Instant::now() + Duration::from_secs(hook.seconds);
    let end = wait(descriptor.as_fd(), &output, &mut said, own.min(budget.until), host);
    let outcome = end_group(pid, descriptor.as_fd());
    let late = if own <= budget.until {
        format!("it did not end within {}s", hook.seconds)
    } else {
        format!(
            "it did not end within the {:?} that the hooks of this container have together, counted from the beginning of \
             setting it up",
            budget.whole
        )
    };
    let tail = said.tail();
    let why = match (&end, &outcome) {
        (End::Itself, Some(Outcome::Code(0))) => return Ok(()),
        (End::Itself, Some(outcome)) => format!("it {}", ended(outcome, hook.place)),
        (End::Init, _) => KILLED.to_owned(),
        (End::Late | End::Itself, _) => late,
    };
    let stuck = match outcome {
        Some(_) => "",
        None => "; it cannot be killed, since it waits for a device or a file system",
    };
    Err(refused(format!("{why}{stuck}{tail}")))
}

/// Ends a hook that may have ended, with its group, and reaps it; `None` if it does not end.
fn end_group(pid: i32, process: BorrowedFd<'_>) -> Option<Outcome> {
    // It leads a session and a group of its own, whose number is nobody else's before it is reaped.
    let _ = sys::kill(-pid, libc::SIGKILL);
    // One that has not come so far is in our group.
    let _ = sys::pidfd_send_signal(process, libc::SIGKILL);
    let deadline = Instant::now() + sweep::PATIENCE;
    loop {
        let left = left_until(deadline);
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left));
        let outcome = reap(process, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if outcome.is_some() || left == Timespec::default() {
            return outcome;
        }
    }
}

fn refused(why: String) -> CallError {
    CallError::refused(FailureKind::Other, why)
}

fn ended(outcome: &Outcome, place: HookPlace) -> String {
    match (outcome, place) {
        (Outcome::Signal(libc::SIGKILL), HookPlace::Container) => {
            "was killed; is the memory limit of the container too low for it?".to_owned()
        }
        (Outcome::Signal(libc::SIGKILL), HookPlace::Host) => {
            "was killed; has the node too little memory? Its kernel's log (dmesg) says so".to_owned()
        }
        (outcome, _) => ended_otherwise(outcome),
    }
}

fn ended_otherwise(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Code(code) => format!("ended with exit code {code}"),
        Outcome::Signal(signal) => format!("was ended by signal {signal}"),
        // What only the records of containers have.
        Outcome::Abandoned(_) | Outcome::Lost { .. } => "ended in an unknown way".to_owned(),
    }
}

/// The new process. What goes wrong here is said where the program would have said it.
fn become_program(hook: &Hook, bundle: &Path, parent: Pid, input: &OwnedFd, output: &OwnedFd) -> ! {
    let _ = rustix::stdio::dup2_stdin(input);
    let _ = rustix::stdio::dup2_stdout(output);
    let _ = rustix::stdio::dup2_stderr(output);
    if let Err(why) = execute(hook, bundle, parent) {
        let _ = rustix::io::write(rustix::stdio::stderr(), text_of(&why).as_bytes());
    }
    sys::exit_now(127)
}

fn execute(hook: &Hook, bundle: &Path, parent: Pid) -> Result<(), CallError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .in_call(|| "prctl(PR_SET_PDEATHSIG)".into())?;
    // It may have died before that.
    if rustix::process::getppid() != Some(parent) {
        sys::exit_now(127);
    }
    rustix::process::setsid().in_call(|| "setsid()".into())?;
    rustix::process::chdir(bundle).in_call(|| format!("chdir({bundle:?})"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::close_descriptors_on_exec().in_call(|| "close_range(3, CLOEXEC)".into())?;
    let path = c_string(&hook.path.to_string_lossy())?;
    let (arguments, environment) = (c_strings(&hook.arguments)?, c_strings(&hook.environment)?);
    sys::reset_signals();
    let errno = sys::execute(&path, &arguments, &environment);
    Err(CallError {
        call: format!("execve({:?})", hook.path),
        errno: errno.raw_os_error(),
        kind: match errno {
            Errno::NOENT => FailureKind::ProgramNotFound,
            _ => FailureKind::ProgramNotExecutable,
        },
    })
}

fn text_of(error: &CallError) -> String {
    let Some(name) = errno_name(error.errno) else { return error.call.clone() };
    let advice = match (error.kind, name) {
        (FailureKind::ProgramNotFound, _) => {
            ": this node has no such program, or not the interpreter or loader that it names; install what the device needs, or \
             write its CDI file anew"
        }
        (FailureKind::ProgramNotExecutable, "EACCES") => {
            ": it is no file, or may not be executed (chmod +x), or its file system is mounted noexec"
        }
        (FailureKind::ProgramNotExecutable, "ENOEXEC") => {
            ": it is of another architecture, or a script whose first line does not begin with #!"
        }
        _ => "",
    };
    format!("{}={name}{advice}", error.call)
}

/// Why a hook is waited for no more.
enum End {
    Itself,
    /// The container is gone.
    Init,
    Late,
}

/// Reads what it says until it ends, without reaping it. A process that it left behind may hold on to the pipe.
fn wait(
    process: BorrowedFd<'_>,
    output: &OwnedFd,
    said: &mut Said,
    deadline: Instant,
    host: Option<&Host<'_>>,
) -> End {
    let has_ended = |process| reap(process, sweep::PEEK).is_some();
    let mut open = true;
    loop {
        let itself = has_ended(process);
        open = open && said.read(output);
        if itself {
            return End::Itself;
        }
        let mut left = left_until(deadline);
        if let Some(host) = host {
            // What it left in the container's process namespace keeps init from ending.
            sweep::reap_children_but(host.init, Some(process));
            if has_ended(host.process) {
                return End::Init;
            }
            left = left.min(LOOK);
        }
        if left == Timespec::default() {
            return End::Late;
        }
        let wanted = if open { PollFlags::IN } else { PollFlags::empty() };
        let source = if open { output.as_fd() } else { process };
        let mut polled = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::from_borrowed_fd(source, wanted),
            PollFd::from_borrowed_fd(host.map_or(process, |host| host.process), PollFlags::IN),
        ];
        // One that is interrupted finds nothing ready, and is tried again.
        let _ = poll(&mut polled, Some(&left));
    }
}

/// The end of what a hook wrote.
#[derive(Debug, Default)]
struct Said {
    last: Vec<u8>,
}

impl Said {
    /// Reads as much as a pipe holds, if there is that much: who never stops writing must not keep us from the deadline.
    /// Returns whether there may be more later.
    fn read(&mut self, output: &OwnedFd) -> bool {
        let mut piece = [0_u8; 4096];
        for _ in 0..16 {
            match rustix::io::retry_on_intr(|| rustix::io::read(output, &mut piece)) {
                Ok(0) => return false,
                Ok(length) => self.push(&piece[..length]),
                Err(error) => return error == Errno::AGAIN,
            }
        }
        true
    }

    fn push(&mut self, piece: &[u8]) {
        self.last.extend_from_slice(piece);
        let excess = self.last.len().saturating_sub(SAID_BYTES);
        self.last.drain(..excess);
    }

    /// The second half of a sentence, on one line; nothing if nothing was said.
    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.last);
        let words: Vec<&str> = text.split(|part: char| part.is_whitespace() || part.is_control()).collect();
        let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        if line.is_empty() { String::new() } else { format!(" and said: {line}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_told_on_one_line() {
        let mut said = Said::default();
        assert_eq!(said.tail(), "");
        said.push(b"time=now\n\x1b[31mlevel=error\x1b[0m\n\tno such folder \xff\n");
        assert_eq!(said.tail(), " and said: time=now [31mlevel=error [0m no such folder \u{fffd}");
        said.push("x".repeat(2 * SAID_BYTES).as_bytes());
        said.push(b" end");
        assert_eq!(said.last.len(), SAID_BYTES);
        assert!(said.tail().ends_with("xx end"));
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(ended(&Outcome::Code(3), HookPlace::Host), "ended with exit code 3");
        assert!(ended(&Outcome::Signal(9), HookPlace::Container).contains("memory limit of the container"));
        assert!(ended(&Outcome::Signal(9), HookPlace::Host).contains("dmesg"));
        assert_eq!(ended(&Outcome::Signal(15), HookPlace::Host), "was ended by signal 15");
    }
}
