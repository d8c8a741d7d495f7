//! Samples by figure and system, with what they are held against.

mod figure;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub(super) use self::figure::quantile;
use self::figure::{Figure, Statistic};
use super::machine::Machine;
use super::system::System;

/// Everything that was measured, in order.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    figures: Vec<Figure>,
    groups: Vec<Group>,
    notes: Vec<String>,
    /// Whose samples come next.
    #[serde(skip)]
    system: System,
}

/// How a group of measurements went.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// Whose.
    pub(super) system: System,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// How many cores processes that are not of the measurement used meanwhile, on average.
    pub(super) cores_of_others: f64,
    /// How many cores the hypervisor gave to others meanwhile, on average.
    pub(super) cores_stolen: f64,
}

impl Report {
    /// A report without samples; what is added is ours until [`Report::of`] says otherwise.
    pub(super) fn new(machine: Machine) -> Self {
        let (figures, groups, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { machine, figures, groups, notes, system: System::Coracle }
    }

    /// From now on samples are of this system.
    pub(super) fn of(&mut self, system: System) {
        self.system = system;
    }

    /// Whose samples are added.
    pub(super) fn system(&self) -> System {
        self.system
    }

    /// What is measured on.
    pub(super) fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Adds a sample to a figure; the first one brings unit and target. Units per second are better when they are
    /// more, all others when they are less.
    pub(super) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        target: impl Into<Option<f64>>,
        sample: f64,
    ) {
        self.put(Statistic::Median, name, unit, target.into(), sample);
    }

    /// Adds a sample to a figure of which the worst counts.
    pub(super) fn add_worst(
        &mut self,
        name: &str,
        unit: &'static str,
        target: impl Into<Option<f64>>,
        sample: f64,
    ) {
        self.put(Statistic::Worst, name, unit, target.into(), sample);
    }

    fn put(
        &mut self,
        statistic: Statistic,
        name: &str,
        unit: &'static str,
        target: Option<f64>,
        sample: f64,
    ) {
        let found = self.figures.iter().position(|figure| figure.name == name);
        let at = found.unwrap_or_else(|| {
            self.figures.push(Figure::new(name, unit, target, statistic));
            self.figures.len() - 1
        });
        self.figures[at].add(self.system, sample);
    }

    /// Notes something that whoever reads the table should know; once.
    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// Notes how a group went.
    pub(super) fn group(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Writes it as JSON to `path`, and as a Markdown table beside it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        let table = path.with_extension("md");
        fs::write(&table, self.markdown()).with_context(|| format!("write {}", table.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_figure_are_kept_by_system() {
        let mut report = Report::new(Machine::default());
        for sample in [3.0, 1.0, 2.0] {
            report.add("create 10", "s", 0.15, sample);
        }
        report.of(System::Swarm);
        report.add("create 10", "s", 0.15, 9.0);
        assert_eq!(report.figures.len(), 1);
        let text = report.markdown();
        assert!(
            text.contains("| create 10 | s | 2.00 (1.00..3.00, 3) | 0.15 | 9.00 | missed by 13.33x |"),
            "{text}"
        );
    }

    #[test]
    fn the_worst_of_all_counts_where_it_is_asked_for() {
        let mut report = Report::new(Machine::default());
        for sample in [3.0, 1.0, 2.0] {
            report.add_worst("worst", "s", 2.5, sample);
        }
        assert!(report.markdown().contains("| worst | s | 3.00 (1.00..3.00, 3) | 2.5 | missed by 1.20x |"));
    }

    #[test]
    fn rates_are_met_from_above() {
        let mut report = Report::new(Machine::default());
        report.add("writes", "1/s", 1600.0, 2000.0);
        report.add("other writes", "1/s", 4000.0, 2000.0);
        let text = report.markdown();
        assert!(text.contains("| writes | 1/s | 2000 (2000..2000, 1) | 1600 | met |"), "{text}");
        assert!(text.contains("| missed by 2.00x |"), "{text}");
    }
}
