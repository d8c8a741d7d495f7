//! The modes: one function each. Those that go on do so until a signal ends the program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what they say is what they are for")]

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

/// How a mode ends, if it does; an error is printed and gives status 2.
pub(crate) type Outcome = Result<ExitCode, String>;

/// Most processes that `fork` starts, whatever it is told.
const FORK_LIMIT: u32 = 10_000;

/// Reads a number from an argument.
pub(crate) fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// Goes on until it is ended.
pub(crate) fn wait() -> Outcome {
    loop {
        thread::park();
    }
}

/// Runs for a while, then ends with this status, and says nothing.
pub(crate) fn exit(status: u8, seconds: f64) -> ExitCode {
    thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    ExitCode::from(status)
}

/// Runs for a while, then ends with status 1.
pub(crate) fn crash_after(seconds: f64) -> ExitCode {
    println!("responder: crashes after {seconds} s");
    thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    eprintln!("responder: crashes, as asked");
    ExitCode::FAILURE
}

/// Prints numbered lines to both outputs, then waits.
pub(crate) fn print(count: u64, pause_milliseconds: u64) -> Outcome {
    for number in 1..=count {
        println!("line {number} of {count}");
        eprintln!("error line {number} of {count}");
        thread::sleep(Duration::from_millis(pause_milliseconds));
    }
    wait()
}

/// Prints numbered lines as fast as the reader takes them, then ends.
pub(crate) fn burst(count: u64) -> ExitCode {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let result = (1..=count).try_for_each(|number| writeln!(output, "line {number} of {count}"));
    if result.and_then(|()| output.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fills this much memory, a mebibyte at a time, then waits.
pub(crate) fn allocate(mebibytes: usize) -> Outcome {
    let mut kept = Vec::new();
    for number in 1..=mebibytes {
        // Ones, not zeroes: fresh zero pages need not be given.
        kept.push(vec![1_u8; 1 << 20]);
        println!("responder: holds {number} MiB");
    }
    std::hint::black_box(&kept);
    wait()
}

/// Uses one processor.
pub(crate) fn spin() -> Outcome {
    loop {
        std::hint::spin_loop();
    }
}

/// Starts processes until there are `count` or the kernel refuses, says how many there are, and waits.
pub(crate) fn fork(count: u32) -> Outcome {
    let mut children: Vec<Child> = Vec::new();
    for _ in 0..count.min(FORK_LIMIT) {
        match Command::new("/proc/self/exe").arg("sleep").stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                println!("responder: refused: {error}");
                break;
            }
        }
    }
    println!("responder: started {} processes", children.len());
    wait()
}

/// Writes a file and says how it went.
pub(crate) fn write(path: &str) -> Outcome {
    match fs::write(path, "written by the responder\n") {
        Ok(()) => println!("responder: wrote {path}"),
        Err(error) => println!("responder: cannot write {path}: {error}"),
    }
    wait()
}

/// Prints the environment, sorted.
pub(crate) fn environment() -> Outcome {
    for (name, value) in sorted_environment() {
        println!("{name}={value}");
    }
    wait()
}

/// The environment, sorted by name.
pub(crate) fn sorted_environment() -> Vec<(String, String)> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let mut all: Vec<_> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    all.sort();
    all
}

/// The host name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Prints who and where it is.
pub(crate) fn identity() -> Outcome {
    let groups = rustix::process::getgroups().map_err(|error| format!("groups: {error}"))?;
    let groups: Vec<u32> = groups.into_iter().map(rustix::process::Gid::as_raw).collect();
    println!("user={}", rustix::process::geteuid().as_raw());
    println!("group={}", rustix::process::getegid().as_raw());
    println!("groups={groups:?}");
    println!("hostname={}", hostname());
    println!("process={}", std::process::id());
    println!("folder={}", std::env::current_dir().map_err(|error| format!("folder: {error}"))?.display());
    let status =
        fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    for line in status
        .lines()
        .filter(|line| ["CapEff", "NoNewPrivs", "Seccomp:"].iter().any(|key| line.starts_with(key)))
    {
        println!("{}", line.replacen(":\t", "=", 1));
    }
    wait()
}
