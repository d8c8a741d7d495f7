//! Named points at which a test can kill the process, as a power switch would: no destructor, no flush.
//!
//! A point is one line, `crash_point!("wal.before-sync")`, and does nothing unless two things are so: the program was
//! built with debug assertions (release builds have no trace of it), and `CORACLE_CRASH_AT` names the point, as
//! `NAME` or `NAME:N` for the N-th time that it is reached. The process then says so on standard error, appends the
//! name to the file in `CORACLE_CRASH_LOG` if there is one, and sends itself SIGKILL.
//!
//! The names are those of `points.txt`; another one does not compile.

#[expect(unsafe_code, reason = "the standard library cannot send signals or end without cleaning up")]
mod kill;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Names the point and the count: `NAME` or `NAME:N`.
pub const WISH_VARIABLE: &str = "CORACLE_CRASH_AT";
/// Names a file that gets the name of the point at which the process was killed.
pub const LOG_VARIABLE: &str = "CORACLE_CRASH_LOG";

/// Whether points do anything in this build.
pub const ARMED: bool = cfg!(debug_assertions);

/// One point per line: its name, spaces, and what was done when it is reached.
const LIST: &str = include_str!("../points.txt");

/// A place where a test can kill the process. The name must be one of `points.txt`.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{
        const { assert!($crate::is_listed($name), "crates/crash-point/points.txt does not list this name") };
        if $crate::ARMED {
            $crate::reached($name);
        }
    }};
}

/// The names of all points, in the order of `points.txt`.
pub fn names() -> impl Iterator<Item = &'static str> {
    LIST.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| !word.starts_with('#'))
}

/// Whether `points.txt` has this name. For [`crash_point!`], which asks while compiling.
#[must_use]
pub const fn is_listed(name: &str) -> bool {
    let (list, name) = (LIST.as_bytes(), name.as_bytes());
    let mut line = 0;
    while line < list.len() {
        if begins_with_word(list, line, name) {
            return true;
        }
        while line < list.len() && list[line] != b'\n' {
            line += 1;
        }
        line += 1;
    }
    false
}

/// Whether the line that starts there has this word first, and is no comment.
const fn begins_with_word(text: &[u8], start: usize, word: &[u8]) -> bool {
    if text[start] == b'#' {
        return false;
    }
    let mut at = 0;
    while at < word.len() {
        if start + at >= text.len() || text[start + at] != word[at] {
            return false;
        }
        at += 1;
    }
    at > 0 && (start + at == text.len() || text[start + at] == b' ' || text[start + at] == b'\n')
}

/// What the environment asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    name: String,
    /// Which time; from 1.
    count: u64,
}

impl Wish {
    fn parse(text: &str) -> Option<Self> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, count.parse().ok().filter(|count| *count > 0)?),
            None => (text, 1),
        };
        is_listed(name).then(|| Self { name: name.to_owned(), count })
    }
}

/// What one process was asked for, and where it tells that it has come to pass.
#[derive(Debug)]
struct Plan {
    wish: Wish,
    /// Opened at the first point of all: at the later ones the path may lead elsewhere (another root).
    log: Option<File>,
    reached: Mutex<HashMap<&'static str, u64>>,
}

impl Plan {
    fn from_environment() -> Option<Self> {
        let text = std::env::var(WISH_VARIABLE).ok()?;
        let Some(wish) = Wish::parse(&text) else {
            tell(&format!("{WISH_VARIABLE}: invalid value {text:?}: no crash point, or no count from 1\n"));
            return None;
        };
        let log = std::env::var_os(LOG_VARIABLE)
            .and_then(|path| File::options().append(true).create(true).open(path).ok());
        Some(Self { wish, log, reached: Mutex::default() })
    }

    /// Counts, and says whether this is the time.
    fn is_due(&self, name: &'static str) -> bool {
        if name != self.wish.name {
            return false;
        }
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reached.entry(name).or_insert(0);
        *count += 1;
        *count == self.wish.count
    }
}

/// What the environment asks of this process and of those that it starts: the two variables, when there is a wish.
///
/// For programs that clear the environment of their children.
#[must_use]
pub fn wish() -> Vec<(&'static str, std::ffi::OsString)> {
    if !ARMED || std::env::var_os(WISH_VARIABLE).is_none() {
        return Vec::new();
    }
    [WISH_VARIABLE, LOG_VARIABLE]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect()
}

/// Kills the process if it was asked to end here. Use [`crash_point!`].
pub fn reached(name: &'static str) {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let Some(plan) = PLAN.get_or_init(Plan::from_environment) else { return };
    if !plan.is_due(name) {
        return;
    }
    tell(&format!("crash point {name}: killing the process\n"));
    if let Some(mut log) = plan.log.as_ref() {
        // One write, so that it is whole. What cannot be told cannot be told.
        let _ = log.write_all(format!("{name}\n").as_bytes());
    }
    kill::kill_this_process()
}

fn tell(text: &str) {
    // There may be nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_listed_once_and_found_whole() {
        let all: Vec<&str> = names().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.len() >= 40);
        for name in &all {
            assert!(is_listed(name), "{name}");
            assert!(!is_listed(&name[..name.len() - 1]) || all.contains(&&name[..name.len() - 1]), "{name}");
        }
        assert!(!is_listed("") && !is_listed("#") && !is_listed("wal.nowhere"));
    }

    #[test]
    fn wishes_are_read() {
        let wish = |name: &str, count| Some(Wish { name: name.to_owned(), count });
        assert_eq!(Wish::parse("wal.before-sync"), wish("wal.before-sync", 1));
        assert_eq!(Wish::parse("wal.before-sync:3"), wish("wal.before-sync", 3));
        for wrong in ["", "wal.before", "wal.before-sync:", "wal.before-sync:0", "wal.before-sync:x"] {
            assert_eq!(Wish::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_wanted_time_is_due() {
        let plan = Plan {
            wish: Wish { name: "wal.before-sync".to_owned(), count: 2 },
            log: None,
            reached: Mutex::default(),
        };
        assert!(!plan.is_due("wal.after-sync"));
        let due: Vec<bool> = (0..3).map(|_| plan.is_due("wal.before-sync")).collect();
        assert_eq!(due, [false, true, false]);
    }
}
