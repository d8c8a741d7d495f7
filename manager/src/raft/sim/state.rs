//! What simulated managers agree on: registers, and the order in which they were written.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use bytes::{Buf as _, Bytes};

use super::ledger::Ledger;
use super::life::lock;
use crate::raft::{Members, ReplicatedState, SnapshotView};

/// A write of one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) key: u64,
    /// Never the same twice.
    pub(super) value: u64,
    /// Bytes that the command takes beside.
    pub(super) padding: usize,
}

impl Put {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = vec![0; 16 + self.padding];
        bytes[..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.value.to_le_bytes());
        bytes.into()
    }
}

/// The registers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) values: BTreeMap<u64, u64>,
    /// The last entry that is applied.
    pub(super) index: u64,
    /// Over all that was ever applied, in its order.
    pub(super) hash: u64,
}

/// The registers of one life of a manager.
#[derive(Debug)]
pub(super) struct State {
    raft_id: u64,
    registers: Mutex<Registers>,
    restored: Mutex<u64>,
    ledger: Arc<Ledger>,
}

impl State {
    pub(super) fn new(raft_id: u64, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self { raft_id, registers: Mutex::default(), restored: Mutex::default(), ledger })
    }

    /// The registers as they are now.
    pub(super) fn registers(&self) -> Registers {
        lock(&self.registers).clone()
    }

    /// How often it was replaced by a snapshot.
    pub(super) fn restored(&self) -> u64 {
        *lock(&self.restored)
    }
}

fn mix(hash: u64, index: u64, command: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hash, index, command).hash(&mut hasher);
    hasher.finish()
}

impl ReplicatedState for State {
    fn apply(&self, index: u64, term: u64, command: &[u8]) -> Bytes {
        let mut registers = lock(&self.registers);
        let mut fields = command;
        let (Ok(key), Ok(value)) = (fields.try_get_u64_le(), fields.try_get_u64_le()) else {
            self.ledger.complain(format!("entry {index} is no command"));
            return Bytes::new();
        };
        if index <= registers.index {
            self.ledger
                .complain(format!("manager {} applied {index} after {}", self.raft_id, registers.index));
        }
        registers.values.insert(key, value);
        registers.hash = mix(registers.hash, index, command);
        registers.index = index;
        self.ledger.applied(self.raft_id, index, term, registers.hash);
        Bytes::new()
    }

    fn batch_applied(&self, index: u64, _term: u64) {
        let mut registers = lock(&self.registers);
        registers.index = registers.index.max(index);
    }

    fn snapshot(&self) -> SnapshotView {
        let registers = self.registers();
        Box::new(move |writer: &mut dyn Write| {
            writer.write_all(&registers.index.to_le_bytes())?;
            writer.write_all(&registers.hash.to_le_bytes())?;
            for (key, value) in registers.values {
                writer.write_all(&key.to_le_bytes())?;
                writer.write_all(&value.to_le_bytes())?;
            }
            Ok(())
        })
    }

    fn restore(&self, index: u64, _term: u64, reader: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let mut fields = bytes.as_slice();
        let short = |_| io::Error::from(io::ErrorKind::UnexpectedEof);
        let (written, hash) =
            (fields.try_get_u64_le().map_err(short)?, fields.try_get_u64_le().map_err(short)?);
        if written > index {
            self.ledger.complain(format!("a snapshot of {index} holds entry {written}"));
        }
        let mut values = BTreeMap::new();
        while !fields.is_empty() {
            values.insert(fields.try_get_u64_le().map_err(short)?, fields.try_get_u64_le().map_err(short)?);
        }
        *lock(&self.registers) = Registers { values, index, hash };
        *lock(&self.restored) += 1;
        Ok(())
    }

    fn membership_changed(&self, _index: u64, _members: &Members) {}
}
