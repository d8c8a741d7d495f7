//! Which values share a bucket.
//!
//! Values below [`LINEAR`] have a bucket each. Above, every power of two is cut into [`LINEAR`] buckets of equal
//! width, so that no bucket is wider than an eighth of its first value: the three bits behind the highest one decide.

/// Buckets per power of two.
pub const LINEAR: usize = 1 << BITS;

/// Buckets for all values that there are: 3,968 bytes of counters.
pub const BUCKETS: usize = LINEAR + (u64::BITS - BITS) as usize * LINEAR;

/// Bits of a value, behind its highest one, that tell buckets apart.
const BITS: u32 = 3;

/// The bucket of a value; below [`BUCKETS`].
#[must_use]
pub const fn bucket_of(value: u64) -> usize {
    if value < LINEAR as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - BITS;
    // What is left of the value after the shift is in LINEAR..2 * LINEAR; the first such bucket has that number.
    shift as usize * LINEAR + (value >> shift) as usize
}

/// The least value of a bucket.
///
/// # Panics
/// When there is no such bucket ([`BUCKETS`]).
#[must_use]
pub const fn first_of(bucket: usize) -> u64 {
    assert!(bucket < BUCKETS, "no such bucket");
    if bucket < LINEAR {
        return bucket as u64;
    }
    let shift = bucket / LINEAR - 1;
    ((LINEAR + bucket % LINEAR) as u64) << shift
}

/// The greatest value of a bucket.
///
/// # Panics
/// When there is no such bucket ([`BUCKETS`]).
#[must_use]
pub const fn last_of(bucket: usize) -> u64 {
    if bucket + 1 == BUCKETS { u64::MAX } else { first_of(bucket + 1) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_cover_everything_without_gaps() {
        assert_eq!(BUCKETS * size_of::<u64>(), 3968);
        assert_eq!(first_of(0), 0);
        for bucket in 0..BUCKETS {
            let (first, last) = (first_of(bucket), last_of(bucket));
            assert!(first <= last);
            assert_eq!((bucket_of(first), bucket_of(last)), (bucket, bucket));
            if bucket > 0 {
                assert_eq!(last_of(bucket - 1) + 1, first);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn small_values_are_exact() {
        for value in 0..16 {
            let bucket = bucket_of(value);
            assert_eq!((first_of(bucket), last_of(bucket)), (value, value));
        }
        assert_eq!((first_of(bucket_of(17)), last_of(bucket_of(17))), (16, 17));
    }

    proptest! {
        #[test]
        fn a_bucket_is_no_wider_than_an_eighth_of_its_values(value: u64) {
            let bucket = bucket_of(value);
            let (first, last) = (first_of(bucket), last_of(bucket));
            prop_assert!(first <= value && value <= last);
            prop_assert!(last - first <= first / 8);
        }
    }
}
