//! The report as one table: for the terminal, and as Markdown.

use std::fmt::{self, Write as _};

use super::Report;
use super::figure::{Figure, Summary};
use crate::bench::system::System;

impl Report {
    /// The peers that were measured.
    fn peers(&self) -> Vec<System> {
        let measured = |peer: &System| self.figures.iter().any(|figure| figure.summary(*peer).is_some());
        System::PEERS.into_iter().filter(measured).collect()
    }

    /// Heading and rows, all cells as text.
    fn rows(&self) -> Vec<Vec<String>> {
        let peers = self.peers();
        let mut heading =
            vec!["figure", "unit", "Coracle", "target"].into_iter().map(str::to_owned).collect();
        extend(&mut heading, peers.iter().map(ToString::to_string), "verdict".to_owned());
        let rows = self.figures.iter().map(|figure| {
            let ours = figure.summary(System::Coracle).map_or_else(String::new, in_full);
            let target = figure.target.map_or_else(String::new, |target| target.to_string());
            let mut row = vec![figure.name.clone(), figure.unit.to_owned(), ours, target];
            extend(&mut row, peers.iter().map(|peer| median(figure, *peer)), figure.verdict());
            row
        });
        std::iter::once(heading).chain(rows).collect()
    }

    /// The Markdown table with what was measured on and the notes.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# Measurements\n\n");
        for line in self.preface() {
            text += &format!("- {line}\n");
        }
        text.push('\n');
        for (number, row) in self.rows().iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if number == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text += "\nOurs as median (smallest..largest, number of samples); where the figure says worst, the worst.\n";
        text += "Of each peer the same statistic, from the same run.\n";
        if !self.notes.is_empty() {
            text += "\n## Notes\n\n";
            for note in &self.notes {
                text += &format!("- {note}\n");
            }
        }
        text += "\n## Load from others\n\n| group | of | seconds | cores of others | cores stolen |\n|---|---|---|---|---|\n";
        for group in &self.groups {
            let (name, system) = (&group.name, group.system);
            let (seconds, others, stolen) = (group.seconds, group.cores_of_others, group.cores_stolen);
            text += &format!("| {name} | {system} | {seconds:.0} | {others:.2} | {stolen:.2} |\n");
        }
        text
    }

    /// What was measured on, and how much others disturbed.
    fn preface(&self) -> Vec<String> {
        let mut lines = self.machine.lines();
        let worst = self.groups.iter().max_by(|a, b| a.cores_of_others.total_cmp(&b.cores_of_others));
        if let Some(worst) = worst {
            lines.push(format!(
                "load from others: at most {:.2} cores (in {}, {}); above 0.3 figures are worse than they should be",
                worst.cores_of_others, worst.name, worst.system
            ));
        }
        lines
    }
}

fn extend(row: &mut Vec<String>, middle: impl Iterator<Item = String>, last: String) {
    row.extend(middle);
    row.push(last);
}

fn in_full(summary: Summary) -> String {
    let Summary { value, low, high, count } = summary;
    format!("{} ({}..{}, {count})", number(value), number(low), number(high))
}

fn median(figure: &Figure, system: System) -> String {
    figure.summary(system).map_or_else(String::new, |summary| number(summary.value))
}

/// Three digits that matter, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.preface() {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        let rows = self.rows();
        let columns = rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, figures to the right, the verdict as it comes.
                match at {
                    0 | 1 => write!(line, "{cell:<width$}  ")?,
                    last if last + 1 == columns => line.push_str(cell),
                    _ => write!(line, "{cell:>width$}  ")?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
