//! Running another program inside the living container, with exactly the restrictions of its own program.
//!
//! ```text
//!  supervisor ──clone──▶ helper ──clone3──▶ child ──execve──▶ program
//!                          │  ▲  sync socket  │
//!        client ◀──reply───┘  └────output─────┘
//! ```
//!
//! The helper stays in the host's pid namespace and in the supervisors' cgroup, where the container cannot see it. It
//! enters the namespaces of the container's init through the process descriptor, opens everything that has to be looked
//! up in the container, and only then makes the child, which is in the container's pid namespace and cgroup from its
//! first instruction. The child has no descriptor of the host (CVE-2019-5736, CVE-2024-21626), cannot be dumped or traced
//! without CAP_SYS_PTRACE, and takes on the restrictions of the plan in the plan's order.
//!
//! Everybody dies with their parent, and the program also when nobody waits for the result any more.

use crate::error::{CallError, During, InCall};
use crate::init::{self, Setup};
use crate::mount::{self, Mounts};
use crate::supervise::{output_pipe, reap};
use crate::sync::{Stage, wait_for_init};
use crate::sys;
use crate::time::left_until;
use coracle_runtime_protocol::{
    EXEC_OUTPUT_BYTES, Exec, ExecEnd, Executed, Failure, Outcome, Plan, Program, Reply, Step,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Signal, WaitIdOptions};
use rustix::thread::ThreadNameSpaceType;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const STEP: &str = "executing another program";
/// Longest time that a program may be given: a day.
const LONGEST: Duration = Duration::from_secs(86_400);
/// What a pipe holds: enough to have all that was written before the program's end.
const PIPE_BYTES: usize = 64 * 1024;

/// Starts the helper, which answers `client`. Returns its process descriptor.
pub(crate) fn begin(
    plan: &Plan,
    init: BorrowedFd<'_>,
    exec: &Exec,
    client: &UnixStream,
) -> Result<OwnedFd, Failure> {
    let supervisor = rustix::process::getpid();
    match sys::clone_init(0, None).in_call(|| "clone3()".into()).during(STEP)? {
        sys::Cloned::Parent { descriptor, .. } => Ok(descriptor),
        sys::Cloned::Child => {
            let died = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err()
                || rustix::process::getppid() != Some(supervisor);
            if died {
                sys::exit_now(127);
            }
            help(plan, init, exec, client)
        }
    }
}

/// All that the helper does. What the supervisor had open is closed: above all, init sees the death of the supervisor by
/// the end of its socket.
fn help(plan: &Plan, init: BorrowedFd<'_>, exec: &Exec, client: &UnixStream) -> ! {
    sys::set_name(c"coracle-exec");
    sys::close_all_but([init, client.as_fd()]);
    let (reply, child) = match attend(plan, init, exec, client.as_fd()) {
        Ok((executed, child)) => (Reply::Executed(executed), child),
        Err(failure) => (Reply::Failed(failure), None),
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        // Whoever asked may have gone.
        let _ = { client }.write_all(&line);
    }
    // One that does not die at once because of a slow disk holds up nobody but us.
    if let Some(child) = child {
        let _ = reap(child.as_fd(), WaitIdOptions::EXITED);
    }
    sys::exit_now(0)
}

/// The cgroups of the container, opened before its mount namespace is entered.
struct Cgroups {
    /// `tasks` files that the child writes itself into (v1).
    join: Vec<File>,
    /// What the child is cloned into (v2).
    directory: Option<OwnedFd>,
}

/// What the child needs.
struct Prepared {
    setup: Setup,
    null: OwnedFd,
    output: OwnedFd,
    sync: OwnedFd,
    join: Vec<File>,
}

/// Returns what came of it, and the child if it has not been reaped.
fn attend(
    plan: &Plan,
    init: BorrowedFd<'_>,
    exec: &Exec,
    client: BorrowedFd<'_>,
) -> Result<(Executed, Option<OwnedFd>), Failure> {
    let deadline = Instant::now() + Duration::from_millis(exec.timeout_milliseconds).min(LONGEST);
    take_score(plan)?;
    let cgroups = open_cgroups(plan).during(STEP)?;
    enter(init).during(STEP)?;
    let setup = look_around(plan, exec)?;
    let null = mount::open_null_of_entered(setup.mounts.root().during(STEP)?).during(STEP)?;
    let (reader, output) = output_pipe().in_call(|| "pipe2()".into()).during(STEP)?;
    let (sync, sync_child) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .in_call(|| "socketpair()".into())
            .during(STEP)?;
    let prepared = Prepared { setup, null, output, sync: sync_child, join: cgroups.join };
    let cloned = sys::clone_init(0, cgroups.directory.as_ref().map(AsFd::as_fd));
    let (pid, child) = match cloned.in_call(|| "clone3()".into()).during("starting the program")? {
        sys::Cloned::Child => {
            // Its own copies; the helper's stay open.
            drop((sync, reader, cgroups.directory));
            become_program(plan, init, exec, prepared)
        }
        sys::Cloned::Parent { pid, descriptor } => (pid, descriptor),
    };
    drop(prepared);
    let watch = Watch {
        reader,
        child,
        pid,
        client,
        deadline,
        limit: limit(exec),
        output: Vec::new(),
        truncated: false,
    };
    // Also the program itself may lie where nothing answers, so the limits hold until it is executed.
    match wait_for_init(sync.as_fd(), &mut None, || watch.wait_for(sync.as_fd())) {
        Ok(Stage::GivenUp) => Ok(watch.give_up()),
        Ok(_) => Ok(watch.observe()),
        Err(failure) => {
            watch.kill();
            let _ = reap(watch.child.as_fd(), WaitIdOptions::EXITED);
            Err(failure)
        }
    }
}

fn limit(exec: &Exec) -> usize {
    usize::try_from(exec.output_bytes.min(EXEC_OUTPUT_BYTES)).unwrap_or(0)
}

/// The child inherits the score. It is set here, where /proc is the host's and shows us.
fn take_score(plan: &Plan) -> Result<(), Failure> {
    let is_score = |step: &&Step| matches!(step, Step::OrdinaryOutOfMemoryScore | Step::OutOfMemoryScore(_));
    plan.steps.iter().filter(is_score).try_for_each(|step| Setup::default().perform(step).during(step))
}

fn open_cgroups(plan: &Plan) -> Result<Cgroups, CallError> {
    let mut join = Vec::new();
    for step in &plan.steps {
        if let Step::JoinCgroup(procs) = step {
            let file = File::options().write(true).open(procs).in_call(|| format!("open({procs:?})"))?;
            join.push(file);
        }
    }
    let open = |path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).in_call(|| format!("open({path:?})"))
    };
    let directory = plan.cgroup_directory.as_ref().map(open).transpose()?;
    Ok(Cgroups { join, directory })
}

/// All namespaces at once: the process descriptor cannot come to mean another process between two of them. Of the pid
/// namespace only children become members. That of cgroups is the child's to enter.
fn enter(init: BorrowedFd<'_>) -> Result<(), CallError> {
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(init, all).in_call(|| "setns(init, all namespaces)".into())
}

/// Once the child is in the container's cgroup. Before, the helper's own cgroup would be outside of the namespace's root, from
/// where nobody gets in where cgroups are mounted with `nsdelegate`, as systemd does (kernel: admin-guide/cgroup-v2, Delegation
/// Containment).
fn enter_cgroups(init: BorrowedFd<'_>) -> Result<(), CallError> {
    rustix::thread::move_into_thread_name_spaces(init, ThreadNameSpaceType::CONTROL_GROUP)
        .in_call(|| "setns(init, CLONE_NEWCGROUP)".into())
}

/// Looks user and working directory up in the container, as init did.
fn look_around(plan: &Plan, exec: &Exec) -> Result<Setup, Failure> {
    let mut setup = Setup { mounts: Mounts::entered().during(STEP)?, identity: None };
    for step in &plan.steps {
        let own = match (step, &exec.user, &exec.working_directory) {
            (Step::ResolveUser { .. }, Some(user), _) => Some(Step::ResolveUser {
                user: user.user.clone(),
                group: user.group.clone(),
                additional_groups: user.additional_groups.clone(),
            }),
            (Step::WorkingDirectory(_), _, Some(path)) => Some(Step::WorkingDirectory(path.clone())),
            (Step::ResolveUser { .. } | Step::WorkingDirectory(_), _, _) => None,
            _ => continue,
        };
        let step = own.as_ref().unwrap_or(step);
        setup.perform(step).during(step)?;
    }
    Ok(setup)
}

/// Never returns; failures go to the helper.
fn become_program(plan: &Plan, init: BorrowedFd<'_>, exec: &Exec, prepared: Prepared) -> ! {
    let Prepared { mut setup, null, output, sync, join } = prepared;
    let result = (|| {
        init::die_with_supervisor(sync.as_fd()).during(STEP)?;
        rustix::process::setsid().in_call(|| "setsid()".into()).during(STEP)?;
        for mut procs in join {
            // "0" stands for the writer.
            procs.write_all(b"0").in_call(|| "write(tasks)".into()).during("joining the cgroup")?;
        }
        enter_cgroups(init).during("entering the cgroup namespace")?;
        setup
            .connect(null.as_fd(), output.as_fd(), output.as_fd())
            .during("connecting the standard streams")?;
        // What is still open is the helper's; from here on a container that may trace can look at us.
        sys::close_all_but([sync.as_fd(), setup.mounts.root().during(STEP)?]);
        for step in plan.steps.iter().filter(|step| restricts(step)) {
            setup.perform(step).during(step)?;
        }
        // Changing credentials cleared the death signal, and the helper may have died before it was set again.
        init::die_with_supervisor(sync.as_fd()).during(STEP)?;
        init::execute(&program(plan, exec), setup.identity.as_ref(), sync.as_fd())
    })();
    if let Err(failure) = result {
        init::tell(sync.as_fd(), &failure);
    }
    sys::exit_now(127)
}

/// The steps that belong to a process and not to the container.
fn restricts(step: &Step) -> bool {
    matches!(
        step,
        Step::KeyLabel(_)
            | Step::SessionKeyring(_)
            | Step::AppArmor(_)
            | Step::ProcessLabel(_)
            | Step::DefaultResourceLimit(_)
            | Step::ResourceLimit(_)
            | Step::Restrict(_)
    )
}

fn program(plan: &Plan, exec: &Exec) -> Program {
    let mut environment = plan.program.environment.clone();
    for entry in &exec.environment {
        let name = entry.split('=').next();
        environment.retain(|known| known.split('=').next() != name);
        environment.push(entry.clone());
    }
    Program { arguments: exec.arguments.clone(), environment, reaper: false }
}

/// The helper's view of the running program.
struct Watch<'a> {
    reader: OwnedFd,
    child: OwnedFd,
    pid: i32,
    client: BorrowedFd<'a>,
    deadline: Instant,
    limit: usize,
    output: Vec<u8>,
    truncated: bool,
}

impl Watch<'_> {
    /// Waits until the socket has something to say; `false` when time is up or nobody waits for the result.
    fn wait_for(&self, sync: BorrowedFd<'_>) -> bool {
        loop {
            let left = left_until(self.deadline);
            let mut polled =
                [PollFd::new(&sync, PollFlags::IN), PollFd::from_borrowed_fd(self.client, PollFlags::RDHUP)];
            let ready = poll(&mut polled, Some(&left));
            if ready.is_ok() && !polled[1].revents().is_empty() {
                return false;
            }
            match ready {
                Ok(0) if left == Timespec::default() => return false,
                Ok(0) | Err(_) => {}
                Ok(_) => return true,
            }
        }
    }

    fn observe(mut self) -> (Executed, Option<OwnedFd>) {
        let mut open = true;
        loop {
            let left = left_until(self.deadline);
            let output = if open { &self.reader } else { &self.child };
            let mut polled = [
                PollFd::new(output, PollFlags::IN),
                PollFd::new(&self.child, PollFlags::IN),
                PollFd::from_borrowed_fd(self.client, PollFlags::RDHUP),
            ];
            let ready = poll(&mut polled, Some(&left)).unwrap_or(1);
            let [readable, ended, abandoned] =
                [0, 1, 2].map(|index: usize| !polled[index].revents().is_empty());
            if open && readable {
                open = self.take(PIPE_BYTES);
            }
            if ended
                && let Some(outcome) = reap(self.child.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
            {
                self.take(PIPE_BYTES);
                let end = match outcome {
                    Outcome::Code(code) => ExecEnd::Code(code),
                    Outcome::Signal(signal) => ExecEnd::Signal(signal),
                    Outcome::Abandoned(_) | Outcome::Lost { .. } => ExecEnd::TimedOut,
                };
                return (self.executed(end), None);
            }
            if abandoned || (ready == 0 && left == Timespec::default()) {
                return self.give_up();
            }
        }
    }

    /// Reads so much at most. Returns whether there may be more.
    fn take(&mut self, at_most: usize) -> bool {
        let mut buffer = [0_u8; 8192];
        let mut taken = 0;
        while taken < at_most {
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    taken += length;
                    let room = self.limit - self.output.len();
                    self.output.extend_from_slice(&buffer[..length.min(room)]);
                    self.truncated |= length > room;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn give_up(mut self) -> (Executed, Option<OwnedFd>) {
        self.kill();
        self.take(PIPE_BYTES);
        let executed = self.executed(ExecEnd::TimedOut);
        (executed, Some(self.child))
    }

    /// With its process group, whose number cannot be anybody else's before it is reaped.
    fn kill(&self) {
        let _ = sys::kill(-self.pid, libc::SIGKILL);
        let _ = sys::pidfd_send_signal(self.child.as_fd(), libc::SIGKILL);
    }

    fn executed(&self, end: ExecEnd) -> Executed {
        let output = String::from_utf8_lossy(&self.output).into_owned();
        Executed { end, output, truncated: self.truncated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_variables_take_the_place_of_the_container_s() {
        let text = r#"{"container":"c","state_directory":"/s","run_directory":"/r","start_at_once":true,"namespaces":0,
            "cgroup_directory":null,"supervisor_cgroups":[],"out_of_memory":null,"steps":[],
            "log":{"directory":"/l","max_size":1,"max_files":1},
            "program":{"arguments":["a"],"environment":["A=1","PATH=/bin"],"reaper":true}}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        let exec = Exec {
            arguments: vec!["true".into()],
            environment: vec!["A=2".into(), "B=3".into()],
            user: None,
            working_directory: None,
            timeout_milliseconds: 1,
            output_bytes: 1,
        };
        let program = program(&plan, &exec);
        assert_eq!(program.environment, ["PATH=/bin", "A=2", "B=3"]);
        assert!(!program.reaper);
    }
}
