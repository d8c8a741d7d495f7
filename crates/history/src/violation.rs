//! What can be wrong with a history.

use std::fmt::{self, Debug, Display};

use crate::operation::Operation;

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// An operation was answered before it was asked.
    Malformed,
    /// Every write has an index of its own.
    IndexReused,
    /// A write that was asked for after something was answered has a higher index.
    WriteOutOfOrder,
    /// A client does not see an older state than it saw before.
    MonotonicReads,
    /// A client sees what it wrote.
    ReadYourWrites,
    /// A read shows everything that was acknowledged to anybody before the read was asked for.
    StaleRead,
    /// A read shows nothing that was written later, or asked for later.
    FutureRead,
    /// What was read was written by somebody.
    Phantom,
    /// What was refused is never seen.
    RefusedSeen,
    /// What was acknowledged stays until something else is written.
    LostWrite,
    /// A write whose outcome is unknown happens at most once.
    AppliedTwice,
    /// Two reads of the same state see the same.
    Disagreement,
    /// A conditional write replaces just what its client has read.
    LostUpdate,
    /// There is an order that explains what all clients saw.
    NotLinearizable,
    /// The search for such an order took too many steps: nothing is known.
    Inconclusive,
}

impl Rule {
    /// What is promised.
    #[must_use]
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Malformed => "an operation is answered after it was asked",
            Self::IndexReused => "every write has an index of its own",
            Self::WriteOutOfOrder => "what is asked for after an answer gets a higher index",
            Self::MonotonicReads => "a client does not see an older state than before",
            Self::ReadYourWrites => "a client sees what it wrote",
            Self::StaleRead => "a read shows everything that was acknowledged before",
            Self::FutureRead => "a read shows nothing from later",
            Self::Phantom => "what is read was written by somebody",
            Self::RefusedSeen => "what was refused is never seen",
            Self::LostWrite => "what was acknowledged stays until it is overwritten",
            Self::AppliedTwice => "a write happens at most once",
            Self::Disagreement => "two reads of one state see the same",
            Self::LostUpdate => "a conditional write replaces what its client has read",
            Self::NotLinearizable => "there is an order that explains everything",
            Self::Inconclusive => "the search for an order ends within its limit",
        }
    }
}

/// A promise that was broken, and by which operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub rule: Rule,
    /// The operations that show it, as text; the one that should not be so comes last.
    pub operations: Vec<String>,
}

impl Violation {
    pub(crate) fn new<K: Debug, V: Debug>(rule: Rule, operations: &[&Operation<K, V>]) -> Self {
        Self { rule, operations: operations.iter().map(ToString::to_string).collect() }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (broken: {})", self.rule, self.rule.promise())?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n    {operation}"))
    }
}
