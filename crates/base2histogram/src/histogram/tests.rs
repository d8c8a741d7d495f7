use proptest::prelude::*;

use super::*;

fn of(values: &[u64]) -> Histogram {
    let mut histogram = Histogram::new();
    values.iter().for_each(|&value| histogram.record(value));
    histogram
}

#[test]
fn an_empty_one_says_zero_and_holds_nothing() {
    let empty = Histogram::<()>::new();
    assert_eq!((empty.total(), empty.percentile(0.5), empty.counts.capacity()), (0, 0, 0));
    assert_eq!(empty.buckets().count(), 0);
    let mut other = empty.clone();
    other.record_n(7, 0);
    assert_eq!(empty, other);
}

#[test]
fn small_values_are_exact() {
    let histogram = of(&(1..=10).collect::<Vec<_>>());
    let told: Vec<u64> = histogram.percentiles(&[0.0, 0.1, 0.5, 0.9, 0.91, 1.0]).collect();
    assert_eq!(told, [1, 1, 5, 9, 10, 10]);
    assert_eq!(of(&[0]).percentile(0.999), 0);
}

#[test]
fn fractions_outside_are_the_ends() {
    let histogram = of(&[3, 5, 7]);
    let told = [-1.0, f64::NAN, f64::NEG_INFINITY, 2.0, f64::INFINITY]
        .map(|fraction| histogram.percentile(fraction));
    assert_eq!(told, [3, 3, 3, 7, 7]);
}

#[test]
fn even_values_are_told_closely() {
    let histogram = of(&(0..100_000).collect::<Vec<_>>());
    for (fraction, exact) in [(0.001, 100), (0.1, 10_000), (0.5, 50_000), (0.99, 99_000), (0.999, 99_900)] {
        let told = histogram.percentile(fraction);
        assert!(told.abs_diff(exact) * 12 < exact, "{fraction}: {told} instead of {exact}");
    }
}

#[test]
fn counts_stop_at_the_end() {
    let mut histogram = of(&[u64::MAX]);
    assert_eq!(scale::bucket_of(histogram.percentile(1.0)), scale::BUCKETS - 1);
    histogram.record_n(u64::MAX, u64::MAX);
    histogram.record_n(1, u64::MAX);
    assert_eq!(histogram.total(), u64::MAX);
    assert_eq!((histogram.percentile(0.0), histogram.percentile(0.9)), (1, 1));
}

#[test]
fn the_greatest_takes_less_than_four_kibibytes() {
    let histogram = of(&[u64::MAX, 1]);
    assert!(histogram.counts.capacity() * size_of::<u64>() + size_of_val(&histogram) < 4096);
    let sizes = of(&[1, 64, 4096]);
    assert!(sizes.counts.capacity() * size_of::<u64>() < 1024);
}

#[test]
fn clear_gives_the_memory_back() {
    let mut histogram = of(&[1, 1_000_000]);
    histogram.clear();
    assert_eq!((histogram.total(), histogram.counts.capacity()), (0, 0));
}

proptest! {
    #[test]
    fn percentiles_are_within_the_bucket_of_the_true_value(
        mut values in prop::collection::vec(any::<u64>().prop_flat_map(|most| 0..=most), 1..200),
        fraction in 0.0..=1.0_f64,
    ) {
        let histogram = of(&values);
        values.sort_unstable();
        let rank = ((fraction * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let exact = values[rank - 1];
        let told = histogram.percentile(fraction);
        prop_assert_eq!(scale::bucket_of(told), scale::bucket_of(exact));
        prop_assert!(told.abs_diff(exact) <= exact / 8);
    }

    #[test]
    fn percentiles_rise(values in prop::collection::vec(any::<u64>(), 1..100)) {
        let stats = of(&values).percentile_stats();
        let all = [stats.p0_1, stats.p1, stats.p5, stats.p10, stats.p50, stats.p90, stats.p99, stats.p99_9];
        prop_assert!(all.is_sorted());
        prop_assert_eq!(stats.samples, values.len() as u64);
    }

    #[test]
    fn merging_is_counting_both(
        left in prop::collection::vec(any::<u64>(), 0..50),
        right in prop::collection::vec(any::<u64>(), 0..50),
    ) {
        let mut merged = of(&left);
        merged.merge(&of(&right));
        prop_assert_eq!(&merged, &of(&[left.clone(), right.clone()].concat()));
        let mut other = of(&right);
        other.merge(&of(&left));
        prop_assert_eq!(merged, other);
    }
}
