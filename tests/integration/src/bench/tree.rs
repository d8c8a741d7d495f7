//! All processes of the machine in one look: who is below whom, and the processor time that each used.

use std::collections::BTreeMap;
use std::fs;

/// Processor time is counted in these per second: `USER_HZ` is 100 on every architecture that we know
/// (proc_pid_stat(5), proc_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its number.
    pub(super) pid: i32,
    /// The first 15 bytes of its program's name.
    pub(super) name: String,
    /// Its own processor time and that of children that it has waited for, in ticks.
    ticks: u64,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub(super) struct Tree {
    children: BTreeMap<i32, Vec<Seen>>,
}

impl Tree {
    /// Looks at all processes; those that end meanwhile are missing.
    pub(super) fn look() -> Self {
        let mut tree = Self::default();
        for pid in crate::process::all() {
            if let Some((parent, seen)) = read(pid) {
                tree.children.entry(parent).or_default().push(seen);
            }
        }
        tree
    }

    /// Everything below a process, without it.
    pub(super) fn below(&self, root: i32) -> Vec<&Seen> {
        let mut found: Vec<&Seen> = self.children(root);
        let mut at = 0;
        while let Some(seen) = found.get(at).copied() {
            found.extend(self.children(seen.pid));
            at += 1;
        }
        found
    }

    fn children(&self, pid: i32) -> Vec<&Seen> {
        self.children.get(&pid).into_iter().flatten().collect()
    }

    /// Processor time of a process and all below it, in seconds; of those that ended, what was waited for.
    ///
    /// It only grows, as long as whoever ends is waited for by a process below the same root.
    pub(super) fn seconds(&self, root: i32) -> f64 {
        let own = read(root).map_or(0, |(_, seen)| seen.ticks);
        in_seconds(own + self.below(root).iter().map(|seen| seen.ticks).sum::<u64>())
    }
}

/// A process and its parent, from `/proc/PID/stat` (proc_pid_stat(5)).
fn read(pid: i32) -> Option<(i32, Seen)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also spaces and parentheses.
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    // utime, stime, cutime, cstime: fields 14 to 17, of which the third is the first here.
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // What has ended is only a number until somebody asks for its status.
    let gone = matches!(*fields.first()?, "Z" | "X");
    (!gone || ticks > 0).then_some(())?;
    let name = if gone { String::new() } else { name };
    Some((fields.get(1)?.parse().ok()?, Seen { pid, name, ticks }))
}

impl Seen {
    /// Whether it runs, rather than being an ended process that nobody has waited for yet.
    pub(super) fn is_alive(&self) -> bool {
        !self.name.is_empty()
    }
}

/// Seconds in which a processor of the machine did something, and seconds that a hypervisor kept to itself: the
/// first line of `/proc/stat` (proc_stat(5)).
pub(super) fn machine_seconds() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let at = |number: usize| fields.get(number).copied().unwrap_or(0);
    // user, nice, system, irq, softirq; idle and iowait are not work, guest times are part of user's.
    (in_seconds(at(0) + at(1) + at(2) + at(5) + at(6)), in_seconds(at(7)))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
fn in_seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_below_and_its_time_stays_when_it_has_ended() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let seen = crate::process::wait(std::time::Duration::from_secs(10), || {
            let tree = Tree::look();
            tree.below(own).iter().any(|seen| seen.name == "sleep").then_some(())
        });
        assert!(seen.is_some(), "the grandchild is not seen");
        // Whoever ends it also ends what it started.
        let shell = i32::try_from(child.id()).unwrap();
        for below in Tree::look().below(shell) {
            crate::process::Process::of(below.pid).unwrap().signal(rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        let before = Tree::look().seconds(own);
        let busy = "i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        assert!(Tree::look().seconds(own) > before, "the time of the ended child is missing");
    }
}
