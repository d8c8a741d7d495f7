//! The exit record (durable) and the run state (worth something until reboot).

use coracle_runtime_protocol::{
    EXIT_FILE, EXIT_FILE_BYTES, EXIT_FILE_PREPARED, ExitRecord, Outcome, Plan, RunState, STATE_FILE,
};
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Whether the end of this container is recorded already. If that cannot be told, it counts as recorded: a supervisor
/// that gives up is seen, a container that runs twice is not.
pub(crate) fn exists(plan: &Plan) -> bool {
    [&plan.state_directory, &plan.run_directory]
        .into_iter()
        .any(|directory| directory.join(EXIT_FILE).try_exists().unwrap_or(true))
}

/// Takes the room on the disk that the record of the end will need.
pub(crate) fn prepare(plan: &Plan) -> io::Result<()> {
    let mut file = File::create(plan.state_directory.join(EXIT_FILE_PREPARED))?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, EXIT_FILE_BYTES) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            io::copy(&mut io::repeat(0).take(EXIT_FILE_BYTES), &mut file).map(drop)
        }
        result => Ok(result?),
    }
}

/// Records the end of the container, so that it survives a power loss.
pub(crate) fn write_exit(plan: &Plan, outcome: Outcome, started_at: Option<u64>) {
    let oom_killed = started_at.is_some() && outcome != Outcome::Code(0) && out_of_memory_kills(plan) > 0;
    let record = ExitRecord { outcome, oom_killed, started_at, finished_at: crate::time::now() };
    let Ok(text) = serde_json::to_vec(&record) else { return };
    if write_exit_durably(&plan.state_directory, &text).is_err() {
        // Good until a reboot. Nobody is left to be told of a second error; the daemon then sees a supervisor that
        // ended without a record.
        let _ = replace(&plan.run_directory, EXIT_FILE, &text);
    }
}

/// Into the room that was taken at the start: the file is shortened only after it was written.
fn write_exit_durably(directory: &Path, text: &[u8]) -> io::Result<()> {
    coracle_crash_point::crash_point!("exit-record.before-write");
    let prepared = directory.join(EXIT_FILE_PREPARED);
    let mut file = File::options().write(true).create(true).truncate(false).open(&prepared)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()?;
    coracle_crash_point::crash_point!("exit-record.before-rename");
    fs::rename(&prepared, directory.join(EXIT_FILE))?;
    coracle_crash_point::crash_point!("exit-record.after-rename");
    File::open(directory)?.sync_all()
}

/// Writes what a daemon needs to know after its restart.
pub(crate) fn write_state(plan: &Plan, state: &RunState) -> io::Result<()> {
    replace(&plan.state_directory, STATE_FILE, &serde_json::to_vec(state)?)
}

/// Replaces a file in one step: readers see the old or the new contents.
fn replace(directory: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    fs::write(&temporary, contents)?;
    fs::rename(&temporary, directory.join(name))
}

/// How many processes of the container the kernel killed for want of memory.
fn out_of_memory_kills(plan: &Plan) -> u64 {
    let Some(counter) = &plan.out_of_memory else { return 0 };
    let text = fs::read_to_string(&counter.file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == counter.key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
