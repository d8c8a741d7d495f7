#![allow(clippy::print_stdout, reason = "tests say why they skip")]

mod damage;

use std::path::Path;
use std::sync::Arc;

use coracle_model::id::{ServiceId, TaskId};
use coracle_model::task::{DesiredState, Exit, Slot, TaskState, TaskStatus};
use coracle_model::time::Timestamp;
use coracle_pki::TicketPublicKey;
use coracle_proto::v1;
use coracle_seal::KeyRing;

use super::*;
use crate::task::restart::History;

fn keyring() -> Arc<KeyRing> {
    Arc::new(KeyRing::in_memory().unwrap())
}

fn record(pid: u32) -> TaskRecord {
    TaskRecord {
        desired: DesiredState::Running,
        status: TaskStatus {
            state: TaskState::Failed,
            pid,
            exit: Some(Exit::Code(3)),
            ..TaskStatus::default()
        },
        acknowledged: false,
        history: History::new(vec![Timestamp::from_secs(5)]),
    }
}

fn assigned(name: &str) -> v1::AssignedTask {
    v1::AssignedTask { service_name: name.to_owned(), ..v1::AssignedTask::default() }
}

fn task(bits: u128) -> TaskId {
    TaskId::from_bits(bits)
}

#[test]
fn everything_is_read_back_also_when_it_grew_or_shrank() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let keyring = keyring();
    let (journal, contents) = Journal::open(&path, Arc::clone(&keyring)).unwrap();
    assert!(contents.tasks.is_empty());
    for name in ["a".repeat(50_000), "b".repeat(20_000), "c".to_owned()] {
        journal.put_assigned(task(1), &assigned(&name));
    }
    journal.put_record(task(1), &record(7));
    journal.put_assigned(task(2), &assigned(&"d".repeat(100_000)));
    journal.put_record(task(2), &record(8));
    journal.put_assigned(task(3), &assigned("gone"));
    journal.put_record(task(3), &record(9));
    journal.remove_task(task(3));
    journal.put_managers(&["10.0.0.1:2377".to_owned()]);
    journal.put_ticket_key(&TicketPublicKey([9; 32]));
    journal.put_term(u64::MAX - 3);
    let kept = KeptLog {
        service: ServiceId::from_bits(4),
        slot: Slot::Number(2),
        ended_at: Timestamp::from_secs(6),
    };
    journal.put_kept_log(task(4), &kept);
    journal.flush().unwrap();
    drop(journal);

    let (_journal, contents) = Journal::open(&path, keyring).unwrap();
    assert_eq!(contents.tasks.keys().copied().collect::<Vec<_>>(), [task(1), task(2)]);
    assert_eq!(contents.tasks[&task(1)], StoredTask { assigned: assigned("c"), record: record(7) });
    assert_eq!(contents.tasks[&task(2)].assigned, assigned(&"d".repeat(100_000)));
    assert_eq!(contents.managers, ["10.0.0.1:2377"]);
    assert_eq!(contents.ticket_key, Some(TicketPublicKey([9; 32])));
    assert_eq!(contents.term, u64::MAX - 3);
    assert_eq!(contents.kept_logs[&task(4)], kept);
}

/// A small file system that is gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", disk.0.path(), "tmpfs", options, c"size=2m").unwrap();
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn what_a_full_disk_made_stale_is_not_read_at_the_next_start() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: mounting needs root");
        return;
    }
    let disk = SmallDisk::mounted();
    let (path, keyring) = (disk.0.path().join("journal"), keyring());
    let put = |journal: &Journal, number, size| {
        journal.put_assigned(task(number), &assigned(&"x".repeat(size)));
        journal.put_record(task(number), &record(1));
        journal.tell(journal.flush());
    };
    let (journal, _) = Journal::open(&path, Arc::clone(&keyring)).unwrap();
    put(&journal, 1, 10);
    assert!(!journal.failing.load(std::sync::atomic::Ordering::Relaxed));
    let mut number = 2;
    while !journal.failing.load(std::sync::atomic::Ordering::Relaxed) {
        put(&journal, number, 100_000);
        number += 1;
    }
    // There is room again, and the first task goes.
    rustix::mount::mount_remount(disk.0.path(), rustix::mount::MountFlags::empty(), c"size=32m").unwrap();
    journal.remove_task(task(1));
    put(&journal, number, 10);
    drop(journal);
    let (journal, contents) = Journal::open(&path, Arc::clone(&keyring)).unwrap();
    assert!(!contents.tasks.contains_key(&task(1)), "it is gone");
    put(&journal, 7, 10);
    drop(journal);
    let (_journal, contents) = Journal::open(&path, keyring).unwrap();
    assert_eq!(contents.tasks.keys().copied().collect::<Vec<_>>(), [task(7)], "the new one works");
}

fn filled(path: &Path, keyring: &Arc<KeyRing>) {
    let (journal, _) = Journal::open(path, Arc::clone(keyring)).unwrap();
    for bits in 0..50 {
        journal.put_assigned(task(bits), &assigned(&"x".repeat(3000)));
        journal.put_record(task(bits), &record(1));
    }
    journal.flush().unwrap();
}

#[test]
fn records_are_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    filled(&path, &keyring());
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(64).any(|window| window == [b'x'; 64]), "{}", file.display());
        }
    }
    // With another key the records are left out, not taken for something else.
    let (_journal, contents) = Journal::open(&path, keyring()).unwrap();
    assert!(contents.tasks.is_empty());
}

#[test]
fn whatever_the_damage_there_is_a_journal_that_works() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("a file in place of the folder", |path| {
            std::fs::remove_dir_all(path).unwrap();
            std::fs::write(path, b"not a folder").unwrap();
        }),
        ("no configuration", |path| std::fs::remove_file(path.join("conf")).unwrap()),
        ("garbage as configuration", |path| std::fs::write(path.join("conf"), [0xa5; 300]).unwrap()),
        ("garbage in the middle of the data", |path| {
            let mut bytes = std::fs::read(path.join("db")).unwrap();
            let middle = bytes.len() / 4;
            bytes[middle..middle + 4096].fill(0xa5);
            std::fs::write(path.join("db"), bytes).unwrap();
        }),
        ("garbage as data", |path| {
            let length = std::fs::metadata(path.join("db")).unwrap().len();
            std::fs::write(path.join("db"), vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let keyring = keyring();
        filled(&path, &keyring);
        damage(&path);
        let (journal, _) =
            Journal::open(&path, Arc::clone(&keyring)).unwrap_or_else(|error| panic!("{what}: {error}"));
        journal.put_assigned(task(99), &assigned("new"));
        journal.put_record(task(99), &record(2));
        journal.flush().unwrap();
        drop(journal);
        let (_journal, contents) = Journal::open(&path, keyring).unwrap();
        assert_eq!(contents.tasks[&task(99)].record, record(2), "{what}");
    }
}

#[test]
fn a_journal_that_another_daemon_uses_is_not_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (journal, _) = Journal::open(&path, keyring()).unwrap();
    let error = Journal::open(&path, keyring()).unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error}");
    assert!(path.exists());
    drop(journal);
    Journal::open(&path, keyring()).unwrap();
}

#[test]
fn a_panic_on_open_is_damage_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let keyring = keyring();
    filled(&path, &keyring);
    let panics = std::cell::Cell::new(2);
    let open = || {
        if path.join("db").exists() && panics.replace(panics.get() - 1) > 0 {
            panic!("as sled does on some damage");
        }
        Journal::open(&path, Arc::clone(&keyring))
    };
    let (journal, contents) = Journal::open_by(&path, open).unwrap();
    assert!(contents.tasks.is_empty());
    assert!(directory.path().join("journal.damaged/db").exists());
    journal.put_assigned(task(1), &assigned("new"));
    journal.flush().unwrap();
}
