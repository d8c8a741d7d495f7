//! What a machine says on its serial console.

use std::collections::BTreeMap;

/// What a scenario says of one thing that it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not so, and why.
    Failed(String),
}

/// What one line of the console means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `VM-RESULT name ok`, or `failed: why`.
    Result(String, Verdict),
    /// `VM-DONE`: the scenario came to its end.
    Done,
    /// The kernel gave up.
    Panic,
    /// Anything else.
    Other,
}

impl Line {
    /// Reads a line. Marks count wherever they stand, because others write to the console too.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        if let Some((_, told)) = line.split_once("VM-RESULT ") {
            let (name, verdict) = told.trim().split_once(' ').unwrap_or((told.trim(), ""));
            let verdict = match verdict.trim() {
                "ok" => Verdict::Ok,
                other => Verdict::Failed(other.strip_prefix("failed: ").unwrap_or(other).to_owned()),
            };
            return Self::Result(name.to_owned(), verdict);
        }
        if line.contains("VM-DONE") {
            return Self::Done;
        }
        if line.contains("Kernel panic - not syncing") { Self::Panic } else { Self::Other }
    }
}

/// All verdicts of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<String, Verdict>);

impl Results {
    /// Adds one; a failure is never overwritten.
    pub fn add(&mut self, name: String, verdict: Verdict) {
        let known = self.0.entry(name).or_insert(Verdict::Ok);
        if *known == Verdict::Ok {
            *known = verdict;
        }
    }

    /// What was said of this thing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Verdict> {
        self.0.get(name)
    }

    /// The names of all things that are as they should be.
    pub fn passed(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, verdict)| **verdict == Verdict::Ok).map(|(name, _)| name.as_str())
    }

    /// Names and reasons of all that are not.
    pub fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().filter_map(|(name, verdict)| match verdict {
            Verdict::Ok => None,
            Verdict::Failed(why) => Some(format!("{name}: {why}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        for (line, meaning) in [
            ("VM-RESULT lo ok\r", Line::Result("lo".into(), Verdict::Ok)),
            ("[ 1.2] VM-RESULT x failed: no, never", Line::Result("x".into(), failed("no, never"))),
            ("VM-RESULT cut of", Line::Result("cut".into(), failed("of"))),
            ("VM-RESULT cut", Line::Result("cut".into(), failed(""))),
            ("VM-DONE", Line::Done),
            ("[ 3.0] Kernel panic - not syncing: Attempted to kill init!", Line::Panic),
            ("hello", Line::Other),
        ] {
            assert_eq!(Line::parse(line), meaning, "{line}");
        }
    }

    #[test]
    fn a_failure_stays() {
        let mut results = Results::default();
        results.add("a".into(), Verdict::Ok);
        results.add("a".into(), Verdict::Failed("late".into()));
        results.add("a".into(), Verdict::Ok);
        results.add("b".into(), Verdict::Ok);
        assert_eq!(results.failures().collect::<Vec<_>>(), ["a: late"]);
        assert_eq!(results.passed().collect::<Vec<_>>(), ["b"]);
    }
}
