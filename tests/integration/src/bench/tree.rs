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
    use std::time::Duration;

    use rustix::process::Signal;

    use crate::process::{Process, Stat};

    /// Waits until the process has become a `sleep`.
    fn asleep(shell: i32) -> Option<Seen> {
        crate::process::wait(Duration::from_secs(30), || {
            let seen = read(shell).map(|(_, seen)| seen);
            seen.into_iter()
                .chain(Tree::look().below(shell).into_iter().cloned())
                .find(|seen| seen.name == "sleep")
        })
    }

    #[test]
    fn a_grandchild_is_below() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let (own, shell) = (std::process::id().try_into().unwrap(), child.id().try_into().unwrap());
        let sleep = asleep(shell).expect("the grandchild is seen").pid;
        let tree = Tree::look();
        let below: Vec<i32> = tree.below(own).iter().map(|seen| seen.pid).collect();
        assert!(below.contains(&shell) && below.contains(&sleep) && !below.contains(&own));
        // With it the shell ends by itself.
        Process::of(sleep).unwrap().signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_time_of_a_child_that_has_ended_is_counted() {
        let busy = "sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done'; exec sleep 60";
        let mut child = Command::new("sh").args(["-c", busy]).spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        asleep(pid).expect("the child has become a sleep");
        let own = in_seconds(Stat::of(pid).unwrap().cpu_ticks);
        assert!(Tree::look().seconds(pid) > own);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
