//! What happens to a whole process: signals and hardening, each in a process of its own, which is this
//! test program started again for one test.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use coracle_daemon::{OnCancel, OnError, Shutdown, Tasks, hardening};
use rustix::process::{DumpableBehavior, Pid, Resource, Signal, dumpable_behavior, getrlimit, kill_process};

/// Set in the process that plays the daemon.
const ROLE: &str = "CORACLE_DAEMON_TEST_ROLE";
const DEADLINE: Duration = Duration::from_secs(30);

/// A child that is killed and reaped however the test ends.
struct Guarded {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Guarded {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_under_test", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Reads until a line ends with `text`; the harness prints before it on the same line.
    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.trim_end().ends_with(text) {
                return;
            }
            line.clear();
        }
        panic!("the process ended without saying {text:?}");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn say(text: &str) {
    println!("{text}");
}

/// Does nothing unless it is started by one of the tests below.
#[test]
fn the_process_under_test() {
    let role = std::env::var(ROLE);
    if role.is_ok() {
        // The parent waits for what this process says, so silence must end by itself.
        std::thread::spawn(|| {
            std::thread::sleep(DEADLINE);
            std::process::exit(99);
        });
    }
    match role.as_deref() {
        Ok("obedient") => daemon(false),
        Ok("stubborn") => daemon(true),
        Ok("hardened") => hardened(),
        _ => {}
    }
}

fn daemon(stubborn: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.listen_for_signals().unwrap();
        let tasks = Tasks::new(shutdown.clone());
        tasks.spawn("work", OnError::StopProcess, OnCancel::Finish, move |token| async move {
            token.cancelled().await;
            say("told to stop");
            if stubborn {
                std::future::pending::<()>().await;
            }
            Ok::<(), std::io::Error>(())
        });
        say("ready");
        shutdown.triggered().await;
        tasks.finish(DEADLINE).await.unwrap();
        say("finished");
    });
}

fn hardened() {
    let inherited = hardening::harden().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let core = getrlimit(Resource::Core);
    assert_eq!((core.current, core.maximum), (Some(0), inherited.core.maximum));
    let files = getrlimit(Resource::Nofile);
    assert_eq!((files.current, files.maximum), (inherited.open_files.maximum, inherited.open_files.maximum));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().with_extension("made");
    std::fs::write(&path, "x").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(mode & 0o777, 0o600);
    say("hardened");
}

#[test]
fn one_signal_stops_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Guarded::start("obedient");
        process.wait_for("ready");
        process.signal(signal);
        process.wait_for("told to stop");
        process.wait_for("finished");
        assert!(process.status().success());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut process = Guarded::start("stubborn");
    process.wait_for("ready");
    process.signal(Signal::TERM);
    process.wait_for("told to stop");
    process.signal(Signal::INT);
    let status = process.status();
    assert_eq!((status.code(), status.signal()), (Some(128 + 2), None));
}

#[test]
fn hardening_takes_effect() {
    let mut process = Guarded::start("hardened");
    process.wait_for("hardened");
    assert!(process.status().success());
}
