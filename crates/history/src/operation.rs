//! One operation of one client.

use std::fmt::{self, Debug};

/// A moment: nanoseconds, or steps of a simulation, of one clock for all clients.
pub type Time = u64;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind<V> {
    /// The value of the key.
    Read,
    /// The key gets this value; nothing removes it.
    Write(Option<V>),
    /// The same, but only if the key's last write had this index.
    WriteIf {
        /// What the key gets.
        value: Option<V>,
        /// The index of the write that the client has read.
        expected: u64,
    },
}

impl<V> Kind<V> {
    /// What it writes, if it does.
    pub const fn written(&self) -> Option<&Option<V>> {
        match self {
            Self::Read => None,
            Self::Write(value) | Self::WriteIf { value, .. } => Some(value),
        }
    }
}

/// What the client knows of the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer<V> {
    /// It was done.
    Ok {
        /// The index of the write, or the index of the state that was read; nothing where the cluster does not say.
        index: Option<u64>,
        /// What was read; nothing for writes and for keys without a value.
        value: Option<V>,
    },
    /// It was not done and never will be.
    Refused,
    /// It may have been done, may be done later, or never.
    Unknown,
}

impl<V> Answer<V> {
    /// A write that was acknowledged with its index.
    #[must_use]
    pub const fn written(index: u64) -> Self {
        Self::Ok { index: Some(index), value: None }
    }

    /// A read of the state at this index.
    #[must_use]
    pub const fn read(index: u64, value: Option<V>) -> Self {
        Self::Ok { index: Some(index), value }
    }
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation<K, V> {
    /// Who asked. A client has one operation at a time.
    pub client: u32,
    /// What it is about.
    pub key: K,
    /// What was asked for.
    pub kind: Kind<V>,
    /// When the client sent it.
    pub invoked_at: Time,
    /// When the client had the answer, or gave up.
    pub completed_at: Time,
    /// What the client knows of the outcome.
    pub answer: Answer<V>,
}

impl<K, V> Operation<K, V> {
    /// The index, if it was done and the answer told it.
    pub const fn index(&self) -> Option<u64> {
        match self.answer {
            Answer::Ok { index, .. } => index,
            Answer::Refused | Answer::Unknown => None,
        }
    }

    /// What was read, if this is a read that was answered.
    pub const fn seen(&self) -> Option<&Option<V>> {
        match (&self.kind, &self.answer) {
            (Kind::Read, Answer::Ok { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// What it writes with an index that is known.
    pub const fn acknowledged(&self) -> Option<(u64, &Option<V>)> {
        match (self.kind.written(), self.index()) {
            (Some(value), Some(index)) => Some((index, value)),
            _ => None,
        }
    }

    /// What it writes at an index that is not known, if at all.
    pub const fn possible(&self) -> Option<&Option<V>> {
        match (&self.answer, self.index()) {
            (Answer::Refused, _) | (_, Some(_)) => None,
            _ => self.kind.written(),
        }
    }
}

impl<K: Debug, V: Debug> fmt::Display for Operation<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, key, invoked_at, completed_at, .. } = self;
        write!(f, "client {client}, {invoked_at}..{completed_at}: ")?;
        match &self.kind {
            Kind::Read => write!(f, "read {key:?}")?,
            Kind::Write(value) => write!(f, "write {key:?} = {value:?}")?,
            Kind::WriteIf { value, expected } => write!(f, "write {key:?} = {value:?} if at {expected}")?,
        }
        match (&self.answer, self.seen()) {
            (Answer::Refused, _) => f.write_str(" -> refused"),
            (Answer::Unknown, _) => f.write_str(" -> unknown"),
            (Answer::Ok { index, .. }, Some(value)) => write!(f, " -> {value:?} at {}", Index(*index)),
            (Answer::Ok { index, .. }, None) => write!(f, " -> done at {}", Index(*index)),
        }
    }
}

/// An index that may not be known.
struct Index(Option<u64>);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "{index}"),
            None => f.write_str("an index that was not told"),
        }
    }
}
