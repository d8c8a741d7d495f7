//! How much one source, and all together, may use of something.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sources that a [`Limiter`] keeps apart; more share what is there for all.
const SOURCES: usize = 4096;

/// Who counts as one when nothing is known but an address: an IPv4 address, or the 64 bits of an IPv6 address that its owner cannot
/// choose freely (RFC 4291, section 2.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// An allowance that is used up and grows back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How much may be used at once.
    pub burst: f64,
    /// How fast it grows back.
    pub per_second: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    const fn full(rate: Rate, at: Instant) -> Self {
        Self { left: rate.burst, at }
    }

    fn grow(&mut self, rate: Rate, at: Instant) {
        let grown = at.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.left, self.at) = ((self.left + grown).min(rate.burst), at);
    }

    const fn has_one(&self) -> bool {
        self.left >= 1.0
    }
}

/// Limits how often something is done for one source, and for all together.
#[derive(Debug)]
pub struct Limiter {
    one: Rate,
    all: Rate,
    state: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    all: Bucket,
    sources: HashMap<Source, Bucket>,
}

impl Limiter {
    /// Everybody's allowance is full.
    #[must_use]
    pub fn new(one: Rate, all: Rate) -> Self {
        let all_full = Bucket::full(all, Instant::now());
        Self { one, all, state: Mutex::new(Buckets { all: all_full, sources: HashMap::new() }) }
    }

    /// Takes one for `source` at this time, or nothing at all: a source that has none left does not use up what others need.
    #[must_use]
    pub fn take(&self, source: Source, at: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.all.grow(self.all, at);
        if state.sources.len() >= SOURCES && !state.sources.contains_key(&source) {
            // Whoever has been quiet for long enough has a full allowance, as if never seen.
            state.sources.retain(|_, bucket| {
                bucket.grow(self.one, at);
                bucket.left < self.one.burst
            });
        }
        let mut shared = Bucket::full(self.one, at);
        let bucket = if state.sources.len() >= SOURCES {
            state.sources.get_mut(&source).unwrap_or(&mut shared)
        } else {
            state.sources.entry(source).or_insert(shared)
        };
        bucket.grow(self.one, at);
        let enough = bucket.has_one() && state.all.has_one();
        if enough {
            bucket.left -= 1.0;
            state.all.left -= 1.0;
        }
        enough
    }
}

/// How many of something each key has at the moment.
#[derive(Debug)]
pub struct Counts<K: Eq + Hash + Clone> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    limit: usize,
}

impl<K: Eq + Hash + Clone> Clone for Counts<K> {
    fn clone(&self) -> Self {
        Self { counts: Arc::clone(&self.counts), limit: self.limit }
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// Nobody has any; each key may have `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { counts: Arc::default(), limit }
    }

    /// One more, until the value is dropped; nothing if the key has its limit.
    #[must_use]
    pub fn enter(&self, key: K) -> Option<Counted<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Counted { counts: self.clone(), key })
    }
}

/// One that is counted.
#[derive(Debug)]
pub struct Counted<K: Eq + Hash + Clone> {
    counts: Counts<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn limiter() -> Limiter {
        Limiter::new(Rate { burst: 3.0, per_second: 1.0 }, Rate { burst: 5.0, per_second: 1.0 })
    }

    #[test]
    fn one_source_does_not_use_up_what_others_have() {
        let (limiter, now) = (limiter(), Instant::now());
        let mine = (0..100).filter(|_| limiter.take(source("10.0.0.1"), now)).count();
        assert_eq!(mine, 3);
        assert!(limiter.take(source("10.0.0.2"), now));
        assert!(limiter.take(source("10.0.0.3"), now));
        assert!(!limiter.take(source("10.0.0.4"), now), "all together have used everything");
        assert!(limiter.take(source("10.0.0.4"), now + Duration::from_secs(1)));
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let rate = Rate { burst: 1e9, per_second: 1e9 };
        let (limiter, now) = (Limiter::new(Rate { burst: 2.0, per_second: 0.1 }, rate), Instant::now());
        for number in 0..(SOURCES as u32 * 2) {
            assert!(limiter.take(Source(IpAddr::from(number.to_be_bytes())), now));
        }
        assert_eq!(limiter.state.lock().unwrap().sources.len(), SOURCES);
        assert!(limiter.take(source("192.0.2.1"), now + Duration::from_secs(60)));
        assert_eq!(limiter.state.lock().unwrap().sources.len(), 1);
    }

    #[test]
    fn places_are_given_back() {
        let counts = Counts::new(2);
        let (first, _second) = (counts.enter("a").unwrap(), counts.enter("a").unwrap());
        assert!(counts.enter("a").is_none());
        assert!(counts.enter("b").is_some());
        drop(first);
        assert!(counts.enter("a").is_some());
    }
}
