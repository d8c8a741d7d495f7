//! Counting values by bucket.

use std::marker::PhantomData;

use crate::scale;
use crate::stats::PercentileStats;

/// How many values were seen in each bucket of the [scale].
///
/// Counters reach up to the highest bucket that was used, so one that sees batch sizes takes some hundred bytes, an
/// unused one nothing, and none takes more than 4 KiB. Counts stop at `u64::MAX` instead of wrapping.
///
/// `T` carries nothing: it is here because users of the registry's crate name it (`Histogram::<()>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// The last one, if there is any, is not zero: that makes equal contents equal histograms.
    counts: Vec<u64>,
    total: u64,
    data: PhantomData<T>,
}

/// One bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The least value that belongs to it.
    pub first: u64,
    /// The greatest value that belongs to it.
    pub last: u64,
    /// How many values it holds.
    pub count: u64,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty one, without memory of its own.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: Vec::new(), total: 0, data: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was seen `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        if count > 0 {
            self.add(scale::bucket_of(value), count);
        }
    }

    /// Adds everything that another one counted.
    pub fn merge(&mut self, other: &Self) {
        // From the top, so that there is one growth at most.
        for (bucket, &count) in other.counts.iter().enumerate().rev().filter(|(_, count)| **count > 0) {
            self.add(bucket, count);
        }
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// How many values were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The value that a fraction of all values does not exceed: 0.5 is the median. A fraction outside of 0 to 1
    /// counts as the nearer end; 0 for an empty histogram.
    ///
    /// The true value is in the same bucket, so the answer is off by less than an eighth, and exact below 16. Within
    /// a bucket values are taken to be spread evenly.
    #[must_use]
    pub fn percentile(&self, fraction: f64) -> u64 {
        let rank = (fraction * self.total as f64).ceil();
        // The conversion stops at the ends of the range, and makes 0 of what is no number.
        self.value_at((rank as u64).clamp(1, self.total.max(1)))
    }

    /// [`percentile`](Self::percentile) for each of the fractions.
    pub fn percentiles<'a>(&'a self, fractions: &'a [f64]) -> impl Iterator<Item = u64> + 'a {
        fractions.iter().map(|&fraction| self.percentile(fraction))
    }

    /// The percentiles that one usually wants.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }

    /// The buckets that hold anything, by rising values.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let used = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(bucket, &count)| Bucket {
            first: scale::first_of(bucket),
            last: scale::last_of(bucket),
            count,
        })
    }

    fn add(&mut self, bucket: usize, count: u64) {
        if bucket >= self.counts.len() {
            self.counts.reserve_exact(bucket + 1 - self.counts.len());
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// The value of the given place, from 1, when all values are sorted.
    fn value_at(&self, rank: u64) -> u64 {
        let mut below = 0_u64;
        for bucket in self.buckets() {
            if rank - below <= bucket.count {
                return bucket.value_at(rank - below);
            }
            below += bucket.count;
        }
        // Only without any values: ranks end at the total, and so do the sums.
        0
    }
}

impl Bucket {
    /// The value of the given place, from 1, among those of this bucket: each stands in the middle of its share.
    fn value_at(self, rank: u64) -> u64 {
        let width = u128::from(self.last - self.first) + 1;
        let halves = 2 * u128::from(rank) - 1;
        let offset = width * halves / (2 * u128::from(self.count));
        // Less than the width, because the rank is at most the count.
        self.first + offset as u64
    }
}

#[cfg(test)]
mod tests;
