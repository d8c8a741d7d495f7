//! Histograms as bars of text, one below the other.

use std::fmt;

use crate::histogram::Histogram;

/// Length of the longest bar, in characters.
const WIDTH: u128 = 40;

/// Several named histograms to be shown together.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

/// A line for each bucket that holds anything.
#[derive(Debug)]
pub struct CompactDisplay<'a>(&'a AsciiChart);

/// As [`CompactDisplay`], with percentiles under each histogram.
#[derive(Debug)]
pub struct DetailedDisplay<'a>(&'a AsciiChart);

impl AsciiChart {
    /// One without histograms.
    #[must_use]
    pub const fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// With another histogram.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// Bars alone.
    #[must_use]
    pub const fn compact(&self) -> CompactDisplay<'_> {
        CompactDisplay(self)
    }

    /// Bars and percentiles.
    #[must_use]
    pub const fn detailed(&self) -> DetailedDisplay<'_> {
        DetailedDisplay(self)
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.compact().fmt(f)
    }
}

impl fmt::Display for CompactDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.series.iter().try_for_each(|(name, histogram)| bars(f, name, histogram))
    }
}

impl fmt::Display for DetailedDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.series.iter().try_for_each(|(name, histogram)| {
            bars(f, name, histogram)?;
            writeln!(f, "{}", histogram.percentile_stats())
        })
    }
}

/// Each bucket with its range, a bar as long as its share of the fullest one's, and its count.
fn bars(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram) -> fmt::Result {
    writeln!(f, "{name}")?;
    let most = histogram.buckets().map(|bucket| bucket.count).max().unwrap_or(1);
    let range =
        |first: u64, last: u64| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let column = histogram.buckets().map(|bucket| range(bucket.first, bucket.last).len()).max().unwrap_or(0);
    for bucket in histogram.buckets() {
        // At most the width, because no count is greater than the greatest.
        let length = (u128::from(bucket.count) * WIDTH).div_ceil(u128::from(most)) as usize;
        writeln!(
            f,
            "{:>column$}  {} {}",
            range(bucket.first, bucket.last),
            "█".repeat(length),
            bucket.count
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let mut histogram = Histogram::new();
        histogram.record_n(3, 40);
        histogram.record_n(100, 10);
        let chart = AsciiChart::new().add("one", histogram).add("none", Histogram::new());
        let expected = format!("one\n     3  {} 40\n96-103  {} 10\nnone\n", "█".repeat(40), "█".repeat(10));
        assert_eq!(chart.to_string(), expected);
        let detailed = chart.detailed().to_string();
        assert_eq!(detailed.lines().count(), 6);
        assert!(detailed.contains("[samples: 50, "), "{detailed}");
    }
}
