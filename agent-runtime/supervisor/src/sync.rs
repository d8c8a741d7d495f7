//! What init tells its supervisor on the socket between them, message by message, and what the supervisor does with it.
//! The programs that [`exec`](crate::exec) starts say the same to their helpers.

use crate::error::{CallError, During, InCall};
use crate::hook;
use coracle_runtime_protocol::{Failure, FailureKind, Plan, Step};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// Message on the sync socket: set up, waiting for a byte.
pub(crate) const CREATED: u8 = b'c';
/// Message on the sync socket: about to execute. If the socket closes without a word after this, that succeeded.
pub(crate) const EXECUTING: u8 = b'x';
/// Message on the sync socket that carries the master of the program's terminal.
pub(crate) const TERMINAL: u8 = b't';
/// First byte of a message that asks for a hook in the host's namespaces, with the number of its step in decimals. The answer
/// is one byte.
pub(crate) const HOOK: u8 = b'h';
/// First byte of a message that carries a [`Failure`].
pub(crate) const FAILED: u8 = b'f';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    Running,
    /// It waits for the hook of this step of the plan.
    Hook(usize),
    /// Whoever asked waits no more.
    GivenUp,
}

/// An init that ends without having said why was killed.
pub(crate) const KILLED: &str = "init was killed while it set the container up; is the memory limit too low?";

/// Runs the hooks that init asks for, until it waits or runs.
pub(crate) fn set_up(
    plan: &Plan,
    hooks: &hook::Host<'_>,
    sync: BorrowedFd<'_>,
    terminal: &mut Option<OwnedFd>,
) -> Result<Stage, Failure> {
    loop {
        let step = match wait_for_init(sync, terminal, || true)? {
            Stage::Hook(step) => plan.steps.get(step),
            stage => return Ok(stage),
        };
        if let Some(step @ Step::Hook(hook)) = step {
            hooks.run(hook).during(step)?;
        }
        let answered = match rustix::io::write(sync, &[0]) {
            Err(Errno::PIPE) => Err(CallError::refused(FailureKind::Other, KILLED)),
            result => result.in_call(|| "write(sync socket)".into()),
        };
        answered.during("answering init")?;
    }
}

/// Reads from init until it waits, runs, fails or asks for a hook. Before each message `ready` waits for it as long as may be;
/// it says `false` when that was too long.
pub(crate) fn wait_for_init(
    sync: BorrowedFd<'_>,
    terminal: &mut Option<OwnedFd>,
    ready: impl Fn() -> bool,
) -> Result<Stage, Failure> {
    let mut executing = false;
    let mut message = [0_u8; 8192];
    loop {
        if !ready() {
            return Ok(Stage::GivenUp);
        }
        let length = rustix::io::retry_on_intr(|| receive(sync, &mut message, terminal))
            .in_call(|| "read(sync socket)".into())
            .during("waiting for init")?;
        match message[..length].split_first() {
            None if executing => return Ok(Stage::Running),
            None => {
                return Err(CallError::refused(FailureKind::Other, KILLED)).during("waiting for init");
            }
            Some((&CREATED, _)) => return Ok(Stage::Waiting),
            Some((&EXECUTING, _)) => executing = true,
            Some((&HOOK, step)) => {
                let step = std::str::from_utf8(step).ok().and_then(|step| step.parse().ok());
                return Ok(Stage::Hook(step.unwrap_or(usize::MAX)));
            }
            Some((&TERMINAL, _)) => {}
            Some((&FAILED, text)) => return Err(parse_failure(text)),
            Some(_) => {}
        }
    }
}

/// One message, and the descriptor that came with it.
fn receive(
    sync: BorrowedFd<'_>,
    message: &mut [u8],
    descriptor: &mut Option<OwnedFd>,
) -> rustix::io::Result<usize> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(message)];
    let received = recvmsg(sync, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            *descriptor = descriptors.last().or(descriptor.take());
        }
    }
    Ok(received.bytes)
}

fn parse_failure(text: &[u8]) -> Failure {
    serde_json::from_slice(text).unwrap_or_else(|_| Failure {
        step: "starting init".into(),
        call: "init failed with an unreadable message".into(),
        errno: 0,
        kind: FailureKind::Other,
    })
}
