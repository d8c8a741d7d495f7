//! Samples by name, as a table and as JSON.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Everything that was measured, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    figures: Vec<Figure>,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    /// What it should be; absent where none is set.
    target: Option<f64>,
    samples: Vec<f64>,
}

impl Report {
    /// Adds a sample to a figure; the first one brings unit and target.
    pub(super) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        target: impl Into<Option<f64>>,
        sample: f64,
    ) {
        if let Some(figure) = self.figures.iter_mut().find(|figure| figure.name == name) {
            figure.samples.push(sample);
            return;
        }
        self.figures.push(Figure {
            name: name.to_owned(),
            unit,
            target: target.into(),
            samples: vec![sample],
        });
    }

    /// Writes it as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

impl Figure {
    /// The samples in order.
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The value below which this part of sorted samples lies.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 samples")]
    let at = (sorted.len().saturating_sub(1)) as f64 * part;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a valid index")]
    let at = at.round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<46} {:>9} {:>9} {:>9} {:>3}  {:>8}  unit",
            "figure", "median", "min", "max", "n", "target"
        )?;
        for figure in &self.figures {
            let sorted = figure.sorted();
            let (median, low, high) =
                (quantile(&sorted, 0.5), quantile(&sorted, 0.0), quantile(&sorted, 1.0));
            let target = figure.target.map_or_else(String::new, |target| target.to_string());
            writeln!(
                f,
                "{:<46} {median:>9.3} {low:>9.3} {high:>9.3} {:>3}  {target:>8}  {}",
                figure.name,
                sorted.len(),
                figure.unit
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_are_kept_together() {
        let mut report = Report::default();
        for sample in [3.0, 1.0, 2.0] {
            report.add("create 10", "s", 0.15, sample);
        }
        assert_eq!(report.figures.len(), 1);
        let sorted = report.figures[0].sorted();
        assert!((quantile(&sorted, 0.5) - 2.0).abs() < f64::EPSILON);
        assert!((quantile(&sorted, 1.0) - 3.0).abs() < f64::EPSILON);
        assert!(report.to_string().contains("create 10"));
    }
}
