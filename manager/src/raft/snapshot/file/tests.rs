use coracle_disk::testing::CrashStorage;

use super::*;
use crate::raft::types::{StoredMembership, log_id};

const NAME: &str = "snapshot";

fn write(storage: &CrashStorage, ring: &KeyRing, content: &[u8]) {
    let meta =
        SnapshotMeta { last_log_id: Some(log_id(3, 17)), last_membership: StoredMembership::default() };
    let mut writer = SnapshotWriter::create(storage, NAME, ring, &meta).unwrap();
    writer.write_all(content).unwrap();
    assert_eq!(writer.finish().unwrap(), content.len() as u64);
}

#[test]
fn a_snapshot_is_read_back_over_several_chunks() {
    let storage = CrashStorage::new();
    let ring = KeyRing::in_memory().unwrap();
    let content: Vec<u8> = (0..3 * SNAPSHOT_CHUNK + 5).map(|at| (at % 251) as u8).collect();
    write(&storage, &ring, &content);
    let mut reader = SnapshotReader::open(&storage, NAME, &ring).unwrap();
    assert_eq!(reader.meta().last_log_id, Some(log_id(3, 17)));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == content);
    reader.finish().unwrap();
}

#[test]
fn every_change_is_noticed_before_the_end() {
    let storage = CrashStorage::new();
    let ring = KeyRing::in_memory().unwrap();
    write(&storage, &ring, b"content of the snapshot");
    let whole = storage.content(NAME).unwrap();
    let check = |bytes: &[u8]| {
        storage.replace(NAME, bytes.to_vec());
        SnapshotReader::open(&storage, NAME, &ring).and_then(SnapshotReader::finish)
    };
    assert!(check(&whole).is_ok());
    for position in 0..whole.len() {
        assert!(check(&whole[..position]).is_err(), "cut at {position}");
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[position] ^= 1 << bit;
            assert!(check(&changed).is_err(), "bit {bit} of byte {position}");
        }
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(check(&longer).is_err());
}
