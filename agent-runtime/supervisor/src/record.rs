//! The exit record (durable) and the run state (worth something until reboot).

use coracle_runtime_protocol::{EXIT_FILE, ExitRecord, Outcome, Plan, RunState, STATE_FILE};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Whether the end of this container is recorded already.
pub(crate) fn exists(plan: &Plan) -> bool {
    plan.state_directory.join(EXIT_FILE).exists()
}

/// Records the end of the container, so that it survives a power loss.
pub(crate) fn write_exit(plan: &Plan, outcome: Outcome, started_at: Option<u64>) {
    let oom_killed = started_at.is_some() && outcome != Outcome::Code(0) && out_of_memory_kills(plan) > 0;
    let record = ExitRecord { outcome, oom_killed, started_at, finished_at: crate::time::now() };
    // Nobody is left to be told of an error; the daemon then sees a supervisor that ended without a record.
    if let Ok(text) = serde_json::to_vec(&record) {
        let _ = replace(&plan.state_directory, EXIT_FILE, &text, true);
    }
}

/// Writes what a daemon needs to know after its restart.
pub(crate) fn write_state(plan: &Plan, state: &RunState) -> io::Result<()> {
    replace(&plan.state_directory, STATE_FILE, &serde_json::to_vec(state)?, false)
}

/// Replaces a file in one step: readers see the old or the new contents.
fn replace(directory: &Path, name: &str, contents: &[u8], durable: bool) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(contents)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, directory.join(name))?;
    if durable {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
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
