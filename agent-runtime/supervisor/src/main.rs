//! The supervisor of one container, and the container's init until it executes the program.
//!
//! Started by the runtime with the [`Plan`] as standard input and a pipe for one [`Report`] as standard output.
//! It owns the container's standard streams, the log and the exit record; it is woken by output, by a request on its
//! socket and by the end of init; it goes on unchanged when the daemon is gone. When it is killed itself, init gets
//! SIGKILL from the kernel, and the daemon (now or later) writes the exit record in its place.
//!
//! This program has one thread, so everything may be done between clone and exec.
//!
//! ```text
//!  daemon ──spawn──▶ supervisor ──clone3──▶ init ──execve──▶ program
//!     ▲  plan, report   │  ▲   sync socket   │
//!     └──control────────┘  └─stdout, stderr──┘
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod confine;
mod error;
mod exec;
mod hook;
mod identity;
mod init;
mod log;
mod mount;
mod reaper;
mod record;
mod resolve;
mod rest;
mod restrict;
mod supervise;
mod sweep;
mod sync;
#[expect(unsafe_code, reason = "the one module that calls the kernel directly")]
mod sys;
mod time;

use coracle_runtime_protocol::{Failure, LOCK_FILE, Outcome, Plan, Report};
use error::{During, InCall};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// Errors were reported to the daemon, or there was nobody to report to.
fn run() -> Result<(), ()> {
    sys::close_inherited_descriptors();
    let (plan, mut report) = match take_over_streams() {
        Ok(taken) => taken,
        Err(_) => return Err(()),
    };
    let Ok(_lock) = take_lock(&plan) else { return Err(()) };
    coracle_crash_point::crash_point!("supervisor.locked");
    match leave_daemon(&plan).and_then(|()| prepare_exit(&plan)).and_then(|()| supervise::launch(&plan)) {
        Ok(container) => {
            send(&mut report, &container.report());
            drop(report);
            // The kernel should choose the program, not the one who watches it. Only permitted with CAP_SYS_RESOURCE;
            // init was cloned before and has the ordinary score.
            let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
            supervise::run(&plan, container);
            Ok(())
        }
        Err(failure) => {
            record::write_exit(&plan, Outcome::Abandoned(failure.clone()), None);
            send(&mut report, &Report::Failed(failure));
            Err(())
        }
    }
}

fn send(report: &mut File, message: &Report) {
    // A daemon that is gone learns the same from the exit record.
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let _ = report.write_all(&line);
    }
}

/// Reads the plan, moves the report pipe away from standard output and points the standard streams at /dev/null,
/// so that no descriptor of the daemon can reach the container.
fn take_over_streams() -> std::io::Result<(Plan, File)> {
    let mut text = Vec::new();
    let mut input = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    input.read_to_end(&mut text)?;
    let plan = serde_json::from_slice(&text)?;
    let report = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok((plan, report))
}

/// Takes the lock that tells the daemon that this container has a living supervisor.
///
/// The daemon takes the same lock before it declares a container lost, and leaves an exit record then: a supervisor
/// that comes too late finds the record (or no directory at all) and ends.
fn take_lock(plan: &Plan) -> Result<File, ()> {
    let lock = File::options().write(true).open(plan.state_directory.join(LOCK_FILE)).map_err(drop)?;
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(drop)?;
    if record::exists(plan) { Err(()) } else { Ok(lock) }
}

fn prepare_exit(plan: &Plan) -> Result<(), Failure> {
    record::prepare(plan).in_call(|| "fallocate(exit record)".into()).during("starting the supervisor")
}

/// Becomes independent of the daemon's session, signals and cgroup.
fn leave_daemon(plan: &Plan) -> Result<(), Failure> {
    let step = "starting the supervisor";
    sys::ignore_signals();
    sys::set_name(c"coracle-super");
    // The daemon's working directory must not be kept busy.
    rustix::process::chdir("/").in_call(|| "chdir(\"/\")".into()).during(step)?;
    rustix::process::setsid().in_call(|| "setsid()".into()).during(step)?;
    sys::set_child_subreaper().in_call(|| "prctl(PR_SET_CHILD_SUBREAPER)".into()).during(step)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .in_call(|| "prctl(PR_SET_DUMPABLE)".into())
        .during(step)?;
    for procs in &plan.supervisor_cgroups {
        std::fs::write(procs, "0").in_call(|| format!("write({procs:?})")).during(step)?;
    }
    Ok(())
}
