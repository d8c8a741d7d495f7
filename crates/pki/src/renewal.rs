//! When to renew a certificate.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::identity::PeerIdentity;
use crate::x509::later;

/// The earliest part of its life at which a certificate is renewed, in percent.
const EARLIEST_PERCENT: u128 = 50;
/// The latest, in percent.
const LATEST_PERCENT: u128 = 80;

/// The time at which to renew the certificate that says `identity`: a point between 50 and 80 percent
/// of its life, chosen by `random` (uniform over all `u64`), so that nodes that joined together do not
/// renew together. Life counts from the time of issue; the hour of back-dating is not part of it.
pub fn renewal_time(identity: &PeerIdentity, random: u64) -> UnixTime {
    renewal_point(identity.issued_at(), identity.not_after(), random)
}

fn renewal_point(issued: UnixTime, not_after: UnixTime, random: u64) -> UnixTime {
    let life = u128::from(not_after.as_secs().saturating_sub(issued.as_secs()));
    let earliest = life * EARLIEST_PERCENT / 100;
    let span = life * (LATEST_PERCENT - EARLIEST_PERCENT) / 100;
    // Multiply and shift: uniform over the span, whatever its length.
    let offset = earliest + ((span * u128::from(random)) >> 64);
    // The offset is at most 80 percent of a u64.
    later(issued, Duration::from_secs(u64::try_from(offset).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn the_ends_of_the_span() {
        assert_eq!(renewal_point(at(1000), at(2000), 0).as_secs(), 1500);
        assert_eq!(renewal_point(at(1000), at(2000), u64::MAX).as_secs(), 1799);
        assert_eq!(renewal_point(at(2000), at(1000), u64::MAX).as_secs(), 2000);
    }

    proptest! {
        #[test]
        fn always_between_50_and_80_percent(issued in 0_u64..1 << 40, life in 0_u64..1 << 40, random: u64) {
            let point = renewal_point(at(issued), at(issued + life), random).as_secs() - issued;
            prop_assert!(point >= life / 2 && point <= life * 8 / 10);
        }
    }
}
