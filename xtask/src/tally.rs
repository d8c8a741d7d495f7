//! Counting what test programs say: passed, failed, and above all skipped.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// What test programs said, added up.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Reasons of those that did not run.
    pub(crate) skipped: Vec<String>,
    /// Commands that ended with an error, whatever was counted: what did not compile is not counted.
    pub(crate) broken: Vec<String>,
    /// What failed tests said, each under a heading with its name.
    pub(crate) reasons: Vec<String>,
    /// What the next lines are.
    part: Part,
}

/// The parts of what a test program says, in their order. It is told to say everything, or skips would not be seen.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Part {
    /// A line for each test.
    #[default]
    Tests,
    /// What passed tests said, then their names.
    Passed,
    /// What failed tests said.
    Reasons,
    /// The names of failed tests.
    Failed,
}

impl Part {
    /// The part to which a line belongs, or that it begins, after a line of this one.
    fn next(self, line: &str) -> Self {
        match (self, line) {
            (Self::Tests, "successes:") => Self::Passed,
            (Self::Tests | Self::Passed, "failures:") => Self::Reasons,
            (Self::Reasons, "failures:") => Self::Failed,
            (Self::Passed | Self::Failed, line) if line.starts_with("test result: ") => Self::Tests,
            _ => self,
        }
    }
}

impl Tally {
    /// Runs a test command, shows its output but for what passed tests said, and counts. An error is only that it could not be started.
    pub(crate) fn run(&mut self, what: &str, command: &mut Command) -> Result<()> {
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {command:?}"))?;
        let output = child.stdout.take().context("no output to read")?;
        for line in BufReader::new(output).lines() {
            // Tests may print anything.
            let line = line.unwrap_or_else(|_| "(a line that is not UTF-8)".to_owned());
            // In a log of this length nobody finds what failed among what passed tests said.
            if self.line(&line) != Part::Passed {
                println!("{line}");
            }
        }
        // A program that was killed in the middle did not come to its end.
        self.part = Part::Tests;
        let status = child.wait().context("wait for the tests")?;
        if !status.success() {
            self.broken.push(format!("{what}: {status}"));
        }
        Ok(())
    }

    /// Counts a line, and tells what it is part of.
    fn line(&mut self, line: &str) -> Part {
        if let Some(reason) = line.trim_start().strip_prefix("SKIPPED:") {
            self.skipped.push(reason.trim().to_owned());
        }
        let before = self.part;
        self.part = before.next(line);
        if (before, self.part) == (Part::Reasons, Part::Reasons) {
            self.reasons.push(line.to_owned());
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            let ignored = count(result, "ignored");
            self.skipped.extend((0..ignored).map(|_| "marked as ignored".to_owned()));
        }
        self.part
    }
}

/// The number before a word.
fn count(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text.split([' ', ';', '.']).filter(|part| !part.is_empty()).collect();
    let at = words.windows(2).find(|pair| pair[1] == word);
    at.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_added_up() {
        let mut tally = Tally::default();
        tally.line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.05s",
        );
        tally.line(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        tally.line("SKIPPED: needs root");
        assert_eq!((tally.passed, tally.failed), (15, 2));
        assert_eq!(tally.skipped, ["marked as ignored", "needs root"]);
    }

    #[test]
    fn what_failed_tests_said_is_kept() {
        let mut tally = Tally::default();
        let said = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nsuccesses:\n\n---- a stdout ----\nfine\n\n\
                    failures:\n\n---- b stdout ----\nno, never\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let shown: Vec<&str> = said.lines().filter(|line| tally.line(line) != Part::Passed).collect();
        assert_eq!(tally.reasons, ["", "---- b stdout ----", "no, never", "", ""]);
        assert!(shown.contains(&"no, never") && shown.contains(&"    b"), "{shown:?}");
        assert!(
            !shown.contains(&"fine") && shown.last().is_some_and(|line| line.starts_with("test result")),
            "{shown:?}"
        );
        assert_eq!((tally.passed, tally.failed), (1, 1));
    }
}
