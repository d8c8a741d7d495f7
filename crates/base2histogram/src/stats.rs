//! Percentiles for people.

use std::fmt;

/// Percentiles of a histogram: each value is not exceeded by that part of all values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// One of a thousand is not greater.
    pub p0_1: u64,
    /// One of a hundred is not greater.
    pub p1: u64,
    /// One of twenty is not greater.
    pub p5: u64,
    /// One of ten is not greater.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// One of ten is greater.
    pub p90: u64,
    /// One of a hundred is greater.
    pub p99: u64,
    /// One of a thousand is greater.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("P0.1", self.p0_1),
            ("P1", self.p1),
            ("P5", self.p5),
            ("P10", self.p10),
            ("P50", self.p50),
            ("P90", self.p90),
            ("P99", self.p99),
            ("P99.9", self.p99_9),
        ];
        write!(f, "[samples: {}", self.samples)?;
        named.iter().try_for_each(|(name, value)| write!(f, ", {name}: {value}"))?;
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use crate::Histogram;

    #[test]
    fn text() {
        let mut histogram = Histogram::<()>::new();
        (1..=10).for_each(|value| histogram.record(value));
        assert_eq!(
            histogram.percentile_stats().to_string(),
            "[samples: 10, P0.1: 1, P1: 1, P5: 1, P10: 1, P50: 5, P90: 9, P99: 10, P99.9: 10]"
        );
    }
}
