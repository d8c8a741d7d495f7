//! One figure: its samples by system, and whether its target is met.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::system::System;

/// Which of the samples is shown and held against the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Statistic {
    /// The one in the middle.
    Median,
    /// The worst.
    Worst,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    /// What.
    pub(super) name: String,
    /// In what unit.
    pub(super) unit: &'static str,
    /// What ours should be; absent where none is set.
    pub(super) target: Option<f64>,
    statistic: Statistic,
    samples: BTreeMap<System, Vec<f64>>,
}

/// What is shown of a system's samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    /// The median, or the worst where that counts.
    pub(super) value: f64,
    /// The smallest.
    pub(super) low: f64,
    /// The largest.
    pub(super) high: f64,
    /// How many there are.
    pub(super) count: usize,
}

impl Figure {
    /// A figure without samples.
    pub(super) fn new(name: &str, unit: &'static str, target: Option<f64>, statistic: Statistic) -> Self {
        Self { name: name.to_owned(), unit, target, statistic, samples: BTreeMap::new() }
    }

    /// Adds a sample.
    pub(super) fn add(&mut self, system: System, sample: f64) {
        self.samples.entry(system).or_default().push(sample);
    }

    /// What is shown of a system; nothing when it was not measured.
    pub(super) fn summary(&self, system: System) -> Option<Summary> {
        let mut sorted = self.samples.get(&system)?.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let value = match self.statistic {
            Statistic::Median => quantile(&sorted, 0.5),
            Statistic::Worst if self.more_is_better() => low,
            Statistic::Worst => high,
        };
        Some(Summary { value, low, high, count: sorted.len() })
    }

    fn more_is_better(&self) -> bool {
        self.unit.ends_with("/s")
    }

    /// Whether ours meets its target, in words; empty where there is nothing to say.
    pub(super) fn verdict(&self) -> String {
        let (Some(target), Some(ours)) = (self.target, self.summary(System::Coracle)) else {
            return String::new();
        };
        let factor = if self.more_is_better() { target / ours.value } else { ours.value / target };
        if factor <= 1.0 { "met".to_owned() } else { format!("missed by {factor:.2}x") }
    }
}

/// The value below which this part of sorted samples lies.
pub(in crate::bench) fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 samples")]
    let at = (sorted.len().saturating_sub(1)) as f64 * part;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a valid index")]
    let at = at.round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
