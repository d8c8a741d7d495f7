//! Checksums by which two sides find out whether they hold the same.

use crate::id::TaskId;
use crate::task::DesiredState;
use crate::version::Version;

// FNV-1a, 64 bits: offset basis and prime of draft-eastlake-fnv.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The checksum of a node's assignments, which must come in the order of task ids.
///
/// Each task counts with its id (16 bytes), the version of its specification (8) and the number of its
/// desired state (2), all big-endian. It guards against mistakes, not against malice.
pub fn assignments(tasks: impl IntoIterator<Item = (TaskId, Version, DesiredState)>) -> u64 {
    tasks.into_iter().fold(OFFSET_BASIS, |hash, (task, spec_version, desired)| {
        let hash = fold(hash, &task.bits().to_be_bytes());
        let hash = fold(hash, &spec_version.index().to_be_bytes());
        fold(hash, &desired.number().to_be_bytes())
    })
}

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        assert_eq!(fold(OFFSET_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fold(OFFSET_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fold(OFFSET_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_part_counts() {
        let sum =
            |id, version, desired| assignments([(TaskId::from_bits(id), Version::new(version), desired)]);
        let base = sum(1, 1, DesiredState::Ready);
        assert_ne!(base, sum(2, 1, DesiredState::Ready));
        assert_ne!(base, sum(1, 2, DesiredState::Ready));
        assert_ne!(base, sum(1, 1, DesiredState::Running));
        assert_ne!(base, assignments([]));
    }
}
