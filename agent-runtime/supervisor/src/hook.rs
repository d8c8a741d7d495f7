//! Runs one hook: a program of the host that is told of the container and may change its mounts and files.
//!
//! Those of the container's namespaces are run by init, those of the host's by the supervisor, whom init asks for them.

use crate::error::{CallError, InCall};
use crate::init::{c_string, c_strings};
use crate::supervise::{output_pipe, reap};
use crate::sys;
use crate::time::left_until;
use coracle_runtime_protocol::{FailureKind, Hook, HookState, Outcome, errno_name};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitIdOptions};
use std::time::{Duration, Instant};

/// Most bytes of what a hook wrote that are told when it fails. The last ones: that is where programs say why.
const SAID_BYTES: usize = 600;

/// Our process id as the host sees it, for as long as the host's procfs is in place.
pub(crate) fn own_process() -> Result<i32, CallError> {
    let link = || "readlink(\"/proc/self\")".to_owned();
    let name = rustix::fs::readlink("/proc/self", Vec::new()).in_call(link)?;
    name.to_str()
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| CallError::refused(FailureKind::Other, "/proc/self is no process"))
}

/// Runs it to its end. `init` is what it is told as the container's process.
pub(crate) fn run(hook: &Hook, init: i32) -> Result<(), CallError> {
    let state = HookState { pid: init, ..hook.state.clone() };
    let state = serde_json::to_vec(&state).map_err(std::io::Error::from).in_call(|| "its state".into())?;
    let (input, state_writer) = pipe_with(PipeFlags::CLOEXEC).in_call(|| "pipe2()".into())?;
    let (output, output_writer) = output_pipe().in_call(|| "pipe2()".into())?;
    let cloned = sys::clone_init(0, None).in_call(|| "clone3()".into())?;
    let sys::Cloned::Parent { pid, descriptor } = cloned else {
        drop((state_writer, output));
        become_program(hook, &input, &output_writer)
    };
    drop((input, output_writer));
    // Far less than a pipe holds, so this does not wait. One that does not read it is no error.
    let _ = rustix::io::write(&state_writer, &state);
    drop(state_writer);
    let mut said = Said::default();
    let deadline = Instant::now() + Duration::from_secs(hook.seconds);
    match wait(descriptor.as_fd(), &output, &mut said, deadline) {
        Some(Outcome::Code(0)) => Ok(()),
        Some(outcome) => Err(refused(format!("it {}{}", ended(&outcome), said.tail()))),
        None => {
            // It leads a session and a group of its own.
            let _ = sys::kill(-pid, libc::SIGKILL);
            let _ = reap(descriptor.as_fd(), WaitIdOptions::EXITED);
            Err(refused(format!("it did not end within {}s{}", hook.seconds, said.tail())))
        }
    }
}

fn refused(why: String) -> CallError {
    CallError::refused(FailureKind::Other, why)
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Code(code) => format!("ended with exit code {code}"),
        Outcome::Signal(libc::SIGKILL) => "was killed; is the memory limit too low for it?".to_owned(),
        Outcome::Signal(signal) => format!("was ended by signal {signal}"),
        // What only the records of containers have.
        Outcome::Abandoned(_) | Outcome::Lost { .. } => "ended in an unknown way".to_owned(),
    }
}

/// The new process. What goes wrong here is said where the program would have said it.
fn become_program(hook: &Hook, input: &OwnedFd, output: &OwnedFd) -> ! {
    let _ = rustix::stdio::dup2_stdin(input);
    let _ = rustix::stdio::dup2_stdout(output);
    let _ = rustix::stdio::dup2_stderr(output);
    if let Err(why) = execute(hook) {
        let _ = rustix::io::write(rustix::stdio::stderr(), text_of(&why).as_bytes());
    }
    sys::exit_now(127)
}

fn execute(hook: &Hook) -> Result<(), CallError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .in_call(|| "prctl(PR_SET_PDEATHSIG)".into())?;
    rustix::process::setsid().in_call(|| "setsid()".into())?;
    let bundle = &hook.state.bundle;
    rustix::process::chdir(bundle).in_call(|| format!("chdir({bundle:?})"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::close_descriptors_on_exec().in_call(|| "close_range(3, CLOEXEC)".into())?;
    let path = c_string(&hook.path.to_string_lossy())?;
    let (arguments, environment) = (c_strings(&hook.arguments)?, c_strings(&hook.environment)?);
    sys::reset_signals();
    Err(sys::execute(&path, &arguments, &environment)).in_call(|| format!("execve({:?})", hook.path))
}

fn text_of(error: &CallError) -> String {
    match errno_name(error.errno) {
        Some("ENOENT") => format!(
            "{}=ENOENT: this node has no such program; install what the device needs, or write its CDI file anew",
            error.call
        ),
        Some(name) => format!("{}={name}", error.call),
        None => error.call.clone(),
    }
}

/// Reads what it says until it ends; `None` when that took too long. A process that it left behind may hold on to the pipe.
fn wait(process: BorrowedFd<'_>, output: &OwnedFd, said: &mut Said, deadline: Instant) -> Option<Outcome> {
    let mut open = true;
    loop {
        let outcome = reap(process, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        open = open && said.read(output);
        if outcome.is_some() {
            return outcome;
        }
        let left = left_until(deadline);
        if left == Timespec::default() {
            return None;
        }
        let wanted = if open { PollFlags::IN } else { PollFlags::empty() };
        let source = if open { output.as_fd() } else { process };
        let mut polled = [PollFd::new(&process, PollFlags::IN), PollFd::from_borrowed_fd(source, wanted)];
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
                Err(error) => return error == rustix::io::Errno::AGAIN,
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
        assert_eq!(ended(&Outcome::Code(3)), "ended with exit code 3");
        assert!(ended(&Outcome::Signal(9)).contains("memory limit"));
        assert_eq!(ended(&Outcome::Signal(15)), "was ended by signal 15");
    }
}
