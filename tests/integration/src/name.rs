//! What the hosts of a lab are called: managers `m1`, `m2`, …, workers `w1`, `w2`, ….

use std::fmt;

/// The name of one host of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A host that starts as a manager.
    Manager(u8),
    /// A host that starts as a worker.
    Worker(u8),
}

/// The first manager, where the swarm is made.
pub const M1: Name = Name::Manager(1);
/// The second manager.
pub const M2: Name = Name::Manager(2);
/// The third manager.
pub const M3: Name = Name::Manager(3);
/// The first worker.
pub const W1: Name = Name::Worker(1);
/// The second worker.
pub const W2: Name = Name::Worker(2);
/// The third worker.
pub const W3: Name = Name::Worker(3);

impl Name {
    /// Its address on the lab's one segment: managers from 10.99.0.11, workers from 10.99.0.101.
    #[must_use]
    pub fn address(self) -> String {
        let last = match self {
            Self::Manager(number) => 10 + number,
            Self::Worker(number) => 100 + number,
        };
        format!("10.99.0.{last}")
    }

    /// Whether it is meant to start as a manager.
    #[must_use]
    pub fn is_manager(self) -> bool {
        matches!(self, Self::Manager(_))
    }

    /// The names of a lab of this size, managers first.
    pub fn all(managers: u8, workers: u8) -> impl Iterator<Item = Self> {
        (1..=managers).map(Self::Manager).chain((1..=workers).map(Self::Worker))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(number) => f.pad(&format!("m{number}")),
            Self::Worker(number) => f.pad(&format!("w{number}")),
        }
    }
}
