//! Starting init, and the loop that lives as long as the container.

use crate::error::{CallError, During, InCall};
use crate::init::{self, Streams};
use crate::log::{Lines, Log};
use crate::sync::{Stage, set_up, wait_for_init};
use crate::{exec, hook, record, rest, sweep, sys, time};
use coracle_runtime_protocol::{
    CONTROL_SOCKET, Exec, Failure, FailureKind, Outcome, Plan, REQUEST_BYTES, Reply, Report, Request,
    RunState,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Bytes read from an output pipe at once.
const READ_BYTES: usize = 32 * 1024;
/// Programs beside the container's own that may run at once.
const MOST_HELPERS: usize = 16;
/// A client that stops in the middle of a request must not hold up the output for longer. Clients are daemons only, and
/// one that is short of processor time or starts from a slow disk is to be waited for.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// A living container.
#[derive(Debug)]
pub(crate) struct Container {
    init: OwnedFd,
    init_pid: i32,
    started_at: Option<u64>,
    sync: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    listener: UnixListener,
    log: Log,
    helpers: Helpers,
}

/// The processes that run programs beside the container's own; see [`exec`].
#[derive(Debug, Default)]
struct Helpers {
    running: Vec<OwnedFd>,
    /// One was killed, so its program, which the kernel kills with it, became a child of ours. Unless it is reaped, the
    /// container's process 1 can never end (zap_pid_ns_processes in kernel/pid_namespace.c).
    orphans: bool,
}

impl Container {
    pub(crate) fn report(&self) -> Report {
        match self.started_at {
            Some(started_at) => Report::Started { init_pid: self.init_pid, started_at },
            None => Report::Created { init_pid: self.init_pid },
        }
    }
}

/// Starts init and waits until it is set up or, if the plan says so, runs the program.
pub(crate) fn launch(plan: &Plan) -> Result<Container, Failure> {
    let step = "starting the supervisor";
    let log =
        Log::open(&plan.log).in_call(|| format!("open(log in {:?})", plan.log.directory)).during(step)?;
    let listener = listen(plan).in_call(|| "bind(control socket)".into()).during(step)?;
    let (stdout, stdout_writer) = output_pipe().in_call(|| "pipe2()".into()).during(step)?;
    let (stderr, stderr_writer) = output_pipe().in_call(|| "pipe2()".into()).during(step)?;
    let (sync, sync_init) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .in_call(|| "socketpair()".into())
            .during(step)?;
    let cgroup = plan
        .cgroup_directory
        .as_ref()
        .map(|path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).in_call(|| format!("open({path:?})"))
        })
        .transpose()
        .during(step)?;
    let budget = hook::Budget::begin(plan);
    let clone_call = || format!("clone3({:#x})", plan.namespaces);
    coracle_crash_point::crash_point!("supervisor.before-clone");
    let cloned = sys::clone_init(plan.namespaces, cgroup.as_ref().map(AsFd::as_fd));
    let (init_pid, init) = match cloned.in_call(clone_call).during("starting init")? {
        sys::Cloned::Child => {
            drop((sync, stdout, stderr));
            let streams = Streams { stdout: stdout_writer, stderr: stderr_writer, sync: sync_init };
            init::run(plan, &streams, budget)
        }
        sys::Cloned::Parent { pid, descriptor } => (pid, descriptor),
    };
    drop((sync_init, stdout_writer, stderr_writer));
    let mut container = Container {
        init,
        init_pid,
        started_at: None,
        sync,
        stdout,
        stderr,
        listener,
        log,
        helpers: Helpers::default(),
    };
    // A host's pid namespace does not end with init, and gives us its orphans.
    container.helpers.orphans = shares_processes(plan);
    let mut terminal = None;
    let hooks = hook::Host { init: init_pid, process: container.init.as_fd(), budget };
    match set_up(plan, &hooks, container.sync.as_fd(), &mut terminal) {
        Ok(stage) => {
            if let Some(terminal) = terminal {
                let nonblocking = rustix::fs::fcntl_setfl(&terminal, OFlags::NONBLOCK);
                nonblocking.in_call(|| "fcntl(terminal, F_SETFL)".into()).during(step)?;
                container.stdout = terminal;
            }
            container.started_at = (stage == Stage::Running).then(time::now);
            let state = RunState { init_pid, started_at: container.started_at };
            coracle_crash_point::crash_point!("supervisor.before-state");
            record::write_state(plan, &state).in_call(|| "write(state)".into()).during(step)?;
            coracle_crash_point::crash_point!("supervisor.after-state");
            Ok(container)
        }
        Err(failure) => {
            sweep::end_init(container.init.as_fd(), init_pid);
            Err(failure)
        }
    }
}

/// The reading end does not block, the writing end, which the program gets, does.
pub(crate) fn output_pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// Binds through a descriptor of the directory, because a socket's path may have 107 bytes only.
fn listen(plan: &Plan) -> std::io::Result<UnixListener> {
    use rustix::fd::AsRawFd;
    let directory = std::fs::File::open(&plan.run_directory)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", directory.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves output, requests and the end of init, and records that end.
pub(crate) fn run(plan: &Plan, mut container: Container) {
    let mut stdout = Some(Lines::new("stdout"));
    // A terminal is one stream.
    let mut stderr = (!plan.terminal).then(|| Lines::new("stderr"));
    let mut failed_start = None;
    let mut buffer = vec![0_u8; READ_BYTES];
    let outcome = loop {
        let ready = wait(&container, stdout.is_some(), stderr.is_some());
        let log = &mut container.log;
        if ready.stdout {
            pump(container.stdout.as_fd(), &mut stdout, log, &mut buffer);
        }
        if ready.stderr {
            pump(container.stderr.as_fd(), &mut stderr, log, &mut buffer);
        }
        log.flush();
        if ready.control {
            serve(plan, &mut container, &mut failed_start);
        }
        container.helpers.reap(container.init_pid);
        if ready.init
            && let Some(outcome) = reap(container.init.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
        {
            break outcome;
        }
    };
    if shares_processes(plan) {
        let helpers = &container.helpers;
        rest::end(plan, || while helpers.reap_orphan(container.init_pid).is_some() {});
    }
    // With init every process of its pid namespace has ended, so what they wrote is in the pipes.
    for (pipe, lines) in [(&container.stdout, &mut stdout), (&container.stderr, &mut stderr)] {
        while pump(pipe.as_fd(), lines, &mut container.log, &mut buffer) {
            container.log.flush();
        }
        if let Some(lines) = lines {
            lines.finish(&mut container.log);
        }
    }
    container.log.flush();
    let outcome = match (failed_start, container.started_at) {
        (Some(failure), _) => Outcome::Abandoned(failure),
        (None, None) => Outcome::Abandoned(Failure {
            step: "waiting for the start".into(),
            call: "the container was killed before it was started".into(),
            errno: 0,
            kind: FailureKind::Other,
        }),
        (None, Some(_)) => outcome,
    };
    record::write_exit(plan, outcome, container.started_at);
}

struct Ready {
    stdout: bool,
    stderr: bool,
    control: bool,
    init: bool,
}

fn wait(container: &Container, stdout: bool, stderr: bool) -> Ready {
    let wanted = |open| if open { PollFlags::IN } else { PollFlags::empty() };
    // A closed stream would be reported as hung up forever, so init stands in for it.
    let source = |open, stream| if open { stream } else { &container.init };
    let mut polled = vec![
        PollFd::new(source(stdout, &container.stdout), wanted(stdout)),
        PollFd::new(source(stderr, &container.stderr), wanted(stderr)),
        PollFd::new(&container.listener, PollFlags::IN),
        PollFd::new(&container.init, PollFlags::IN),
    ];
    polled.extend(container.helpers.running.iter().map(|helper| PollFd::new(helper, PollFlags::IN)));
    let soon = Timespec { tv_sec: 1, tv_nsec: 0 };
    // An interrupted or failed poll finds nothing ready, and is tried again.
    let _ = poll(&mut polled, container.helpers.orphans.then_some(&soon));
    let happened = |index: usize| !polled[index].revents().is_empty();
    Ready {
        stdout: stdout && happened(0),
        stderr: stderr && happened(1),
        control: happened(2),
        init: happened(3),
    }
}

/// Reads once. Returns whether there may be more.
fn pump(pipe: BorrowedFd<'_>, lines: &mut Option<Lines>, log: &mut Log, buffer: &mut [u8]) -> bool {
    let Some(open) = lines else { return false };
    match rustix::io::read(pipe, &mut *buffer) {
        Ok(0) => {
            open.finish(log);
            *lines = None;
            false
        }
        Ok(length) => {
            open.push(&buffer[..length], log);
            true
        }
        // All of the container closed the terminal.
        Err(Errno::IO) => {
            open.finish(log);
            *lines = None;
            false
        }
        Err(error) => error == Errno::INTR,
    }
}

fn shares_processes(plan: &Plan) -> bool {
    plan.namespaces & u64::from(libc::CLONE_NEWPID.cast_unsigned()) == 0
}

/// The outcome, if the process has ended.
pub(crate) fn reap(init: BorrowedFd<'_>, options: WaitIdOptions) -> Option<Outcome> {
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(init), options)).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Outcome::Code(code)),
        (None, Some(signal)) => Some(Outcome::Signal(signal)),
        (None, None) => None,
    }
}

/// Answers one request. A client that misbehaves is simply cut off.
fn serve(plan: &Plan, container: &mut Container, failed_start: &mut Option<Failure>) {
    let Ok((client, _)) = container.listener.accept() else { return };
    let Some(request) = read_request(&client) else { return };
    let reply = match request {
        Request::Start => start(plan, container, failed_start),
        Request::Signal { number } => signal(container, number),
        Request::Exec(exec) => match begin(plan, container, &exec, &client) {
            // Its helper answers.
            Ok(()) => return,
            Err(failure) => Reply::Failed(failure),
        },
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        let _ = (&client).write_all(&line);
    }
}

fn read_request(client: &UnixStream) -> Option<Request> {
    client.set_nonblocking(false).ok()?;
    client.set_read_timeout(Some(CLIENT_PATIENCE)).ok()?;
    client.set_write_timeout(Some(CLIENT_PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(client.take(REQUEST_BYTES)).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn start(plan: &Plan, container: &mut Container, failed_start: &mut Option<Failure>) -> Reply {
    if let Some(started_at) = container.started_at {
        return Reply::Started { started_at };
    }
    coracle_crash_point::crash_point!("supervisor.start.before");
    let told = rustix::io::write(&container.sync, &[0]).in_call(|| "write(sync socket)".into());
    let running = told
        .during("starting the program")
        .and_then(|_| wait_for_init(container.sync.as_fd(), &mut None, || true));
    match running {
        Ok(_) => {
            let started_at = time::now();
            container.started_at = Some(started_at);
            // The exit record holds the time too; only a restarted daemon would miss this file.
            let _ = record::write_state(
                plan,
                &RunState { init_pid: container.init_pid, started_at: container.started_at },
            );
            coracle_crash_point::crash_point!("supervisor.start.after");
            Reply::Started { started_at }
        }
        Err(failure) => {
            *failed_start = Some(failure.clone());
            Reply::Failed(failure)
        }
    }
}

fn signal(container: &Container, number: i32) -> Reply {
    match sys::pidfd_send_signal(container.init.as_fd(), number)
        .in_call(|| format!("pidfd_send_signal({number})"))
        .during("signalling init")
    {
        Ok(()) => Reply::Done,
        Err(failure) => Reply::Failed(failure),
    }
}

/// Starts a helper, which answers the client when the program has ended.
fn begin(plan: &Plan, container: &mut Container, exec: &Exec, client: &UnixStream) -> Result<(), Failure> {
    let step = "executing another program";
    let refused = |why: &str| Err(CallError::refused(FailureKind::Other, why)).during(step);
    if container.started_at.is_none() {
        return refused("the container has not been started");
    }
    if container.helpers.running.len() >= MOST_HELPERS {
        return refused("too many programs run beside the container's own; try again later");
    }
    let helper = exec::begin(plan, container.init.as_fd(), exec, client)?;
    container.helpers.running.push(helper);
    Ok(())
}

impl Helpers {
    /// Reaps the ones that ended, and what they left.
    fn reap(&mut self, init_pid: i32) {
        let orphans = &mut self.orphans;
        self.running.retain(|helper| {
            match reap(helper.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                None => true,
                Some(outcome) => {
                    *orphans |= outcome != Outcome::Code(0);
                    false
                }
            }
        });
        while self.orphans && self.reap_orphan(init_pid).is_some() {}
    }

    /// Any ended child but init, whose end is looked for elsewhere, and the helpers.
    fn reap_orphan(&self, init_pid: i32) -> Option<()> {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = sys::ended_child(peek.bits())?;
        let is_helper = |helper: &OwnedFd| reap(helper.as_fd(), peek).is_some();
        if ended == init_pid || self.running.iter().any(is_helper) {
            return None;
        }
        let ended = rustix::process::Pid::from_raw(ended)?;
        rustix::process::waitid(WaitId::Pid(ended), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
            .ok()?
            .map(drop)
    }
}
