mod meanwhile;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_daemon::SystemClock;
use coracle_model::id::TaskId;
use tokio_util::sync::CancellationToken;

use super::disk::own_name;
use super::usage::{Fill, Wanted};
use super::*;

fn open(folder: &Path) -> VolumeStore {
    VolumeStore::open(folder.join("volumes"), Arc::new(SystemClock::new())).unwrap()
}

fn user(bits: u128) -> VolumeUser {
    VolumeUser { task: TaskId::from_bits(bits), service: "web".into() }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), "yes".to_owned())])
}

fn take(store: &VolumeStore, user: &VolumeUser, name: &str, fill: Option<Fill<'_>>) -> std::path::PathBuf {
    let labels = labels("mount");
    store.take(user, Wanted { name, labels: &labels, is_own: false }, fill).unwrap()
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

#[test]
fn a_volume_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let made = store.create("data", &labels("first")).unwrap();
    assert_eq!(store.create("data", &labels("second")).unwrap(), made, "making it again changes nothing");
    let unnamed = store.create_unnamed(&labels("x")).unwrap();
    assert!(unnamed.anonymous && unnamed.name.len() == 64 && unnamed.owner.is_none());
    let before = store.list();
    assert_eq!(before.len(), 2);
    assert_eq!(open(folder.path()).list(), before);
}

#[test]
fn names_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for name in ["", ".tmp", "..", "a/b", "-a", "a b", "ä", &"n".repeat(256)] {
        assert!(matches!(store.create(name, &labels("x")), Err(VolumeError::Name(_))), "{name:?}");
        assert!(matches!(store.remove(name), Err(VolumeError::NotFound(_))), "{name:?}");
    }
    assert_eq!(store.list(), []);
}

#[test]
fn what_a_crash_left_is_cleaned_and_what_was_damaged_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volumes");
    open(folder.path()).create("damaged", &labels("lost")).unwrap();
    open(folder.path()).create("newer", &labels("x")).unwrap();
    fs::write(root.join("damaged/_data/file"), "kept").unwrap();
    fs::write(root.join("damaged/volume.json"), "{").unwrap();
    fs::write(
        root.join("newer/volume.json"),
        r#"{"format":2,"driver":"local","created_at_nanoseconds":1,"more":true}"#,
    )
    .unwrap();
    fs::create_dir_all(root.join(".tmp/7/_data")).unwrap();
    fs::write(root.join("stray"), "a file is no volume").unwrap();
    let store = open(folder.path());
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fs::read_dir(&root).unwrap().any(|entry| entry.unwrap().path().join("7").exists()) {
        assert!(std::time::Instant::now() < deadline, "what a crash left is not removed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let names: Vec<String> = store.list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["damaged", "newer"]);
    let data = take(&store, &user(1), "damaged", None);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
    let error = store.create("newer", &labels("x")).unwrap_err();
    assert!(error.to_string().contains("newer version (format 2)"), "{error}");
    assert!(matches!(store.remove("newer"), Err(VolumeError::Unusable { .. })));
}

#[test]
fn one_that_is_in_use_stays_until_the_container_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let data = take(&store, &user(1), "data", None);
    fs::write(data.join("file"), "content").unwrap();
    take(&store, &user(2), "data", None);
    let error = store.remove("data").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "volume data is in use by task {} of service web, task {} of service web: remove or move what uses it first",
            TaskId::from_bits(1),
            TaskId::from_bits(2)
        )
    );
    let pruned = store.prune(|_| true, &never());
    assert!(pruned.names.is_empty() && pruned.failure.is_none(), "{pruned:?}");
    store.release(TaskId::from_bits(1));
    assert!(matches!(store.remove("data"), Err(VolumeError::InUse { .. })));
    store.release(TaskId::from_bits(2));
    assert_eq!(store.get("data").unwrap().users, []);
    store.remove("data").unwrap();
    assert!(!data.exists());
    assert!(matches!(store.remove("data"), Err(VolumeError::NotFound(_))));
}

#[test]
fn users_are_known_again_and_what_belonged_to_gone_containers_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    take(&store, &user(1), "named", None);
    let own = |bits: u128, name| {
        let labels = BTreeMap::new();
        store.take(&user(bits), Wanted { name, labels: &labels, is_own: true }, None).unwrap()
    };
    own(1, "own-1");
    own(2, "own-2");
    let again = open(folder.path());
    again.recover(&[(user(1), vec!["named".into(), "own-1".into(), "unknown".into()])]);
    let names: Vec<String> = again.list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["named", "own-1"]);
    assert!(matches!(again.remove("named"), Err(VolumeError::InUse { .. })));
    again.release(TaskId::from_bits(1));
    let names: Vec<String> = again.list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["named"], "the task's own one goes with its container");
}

#[test]
fn a_task_s_own_volume_goes_also_when_its_record_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let own = own_name(TaskId::from_bits(7), 0);
    let wanted = Wanted { name: &own, labels: &BTreeMap::new(), is_own: true };
    store.take(&user(7), wanted, None).unwrap();
    // Beginning like a task's own one is not enough.
    let names = [own.clone(), format!("{own}x"), format!("{own}-1"), "7-0".to_owned()];
    for name in &names {
        store.create(name, &labels("x")).unwrap();
        // As a loss of power leaves a file that was not synced.
        fs::write(folder.path().join("volumes").join(name).join("volume.json"), "").unwrap();
    }
    let again = open(folder.path());
    again.recover(&[]);
    assert!(matches!(again.get(&own), Err(VolumeError::NotFound(_))));
    for name in &names[1..] {
        assert!(!again.get(name).unwrap().anonymous, "{name}");
    }
}

#[test]
fn of_two_tasks_one_fills_and_the_other_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let fills = AtomicUsize::new(0);
    let fill = |data: &Path| {
        fills.fetch_add(1, Ordering::SeqCst);
        fs::write(data.join("half"), "").unwrap();
        // Long enough for the others to come too early, if they did not wait.
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::write(data.join("whole"), "").unwrap();
        Ok(3)
    };
    std::thread::scope(|scope| {
        for bits in 1..=4 {
            let (store, fill) = (&store, &fill);
            scope.spawn(move || {
                let data = take(store, &user(bits), "data", Some(fill));
                assert!(data.join("whole").exists());
            });
        }
    });
    assert_eq!(fills.load(Ordering::SeqCst), 1);
    assert_eq!(store.get("data").unwrap().users.len(), 4);
}

#[test]
fn only_an_empty_volume_is_filled_and_a_failure_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let fill = |data: &Path| fs::write(data.join("new"), "").map(|()| 2).map_err(|error| error.to_string());
    store.create("empty", &labels("x")).unwrap();
    assert!(take(&store, &user(1), "empty", Some(&fill)).join("new").exists());
    let full = take(&store, &user(1), "full", None);
    fs::write(full.join("old"), "").unwrap();
    store.release(TaskId::from_bits(1));
    assert!(!take(&store, &user(2), "full", Some(&fill)).join("new").exists());
    let broken = |data: &Path| {
        fs::write(data.join("half"), "").unwrap();
        Err("no space".to_owned())
    };
    let labels = BTreeMap::new();
    let error = store
        .take(&user(3), Wanted { name: "none", labels: &labels, is_own: false }, Some(&broken))
        .unwrap_err();
    assert_eq!(error.to_string(), "volume none: no space");
    assert!(matches!(store.get("none"), Err(VolumeError::NotFound(_))));
    assert_eq!(fs::read_dir(folder.path().join("volumes/.tmp")).unwrap().count(), 0);
}

#[test]
fn removing_and_taking_at_once_never_gives_a_folder_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            for _ in 0..200 {
                let _ = store.remove("data");
            }
        });
        for bits in 1..=2 {
            scope.spawn(move || {
                for _ in 0..100 {
                    let data = take(store, &user(bits), "data", None);
                    fs::write(data.join(bits.to_string()), "").unwrap();
                    assert!(data.join(bits.to_string()).exists());
                    store.release(TaskId::from_bits(bits));
                }
            });
        }
    });
}

#[test]
fn a_backup_comes_back_as_a_new_volume() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let data = take(&store, &user(1), "data", None);
    fs::write(data.join("file"), "content").unwrap();
    let mut archive = Vec::new();
    let report = store.back_up("data", &mut archive, &never()).unwrap();
    assert_eq!((report.entries, report.bytes), (2, 7));
    store.restore("copy", &labels("copy"), false, &archive[..]).unwrap();
    let copy = store.get("copy").unwrap();
    assert_eq!((copy.labels, copy.anonymous), (labels("copy"), false));
    assert_eq!(store.size("copy", &never()).unwrap().inodes, 2);
    assert_eq!(fs::read_to_string(take(&store, &user(2), "copy", None).join("file")).unwrap(), "content");

    let refused = |name, replace| store.restore(name, &labels("x"), replace, &archive[..]).unwrap_err();
    assert!(matches!(refused("copy", false), VolumeError::Exists(_)));
    assert!(matches!(refused("copy", true), VolumeError::InUse { .. }));
    store.release(TaskId::from_bits(2));
    let cut = store.restore("copy", &labels("x"), true, &archive[..archive.len() - 1024]).unwrap_err();
    assert!(matches!(cut, VolumeError::Restore { .. }), "{cut}");
    fs::write(data.join("file"), "newer").unwrap();
    let mut archive = Vec::new();
    store.back_up("data", &mut archive, &never()).unwrap();
    store.restore("copy", &labels("newer"), true, &archive[..]).unwrap();
    assert_eq!(fs::read_to_string(take(&store, &user(2), "copy", None).join("file")).unwrap(), "newer");
    until_nothing_is_left(folder.path());
    assert_eq!(open(folder.path()).get("copy").unwrap().labels, labels("newer"));
}

/// What was not installed, or was replaced, goes meanwhile.
fn until_nothing_is_left(folder: &Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fs::read_dir(folder.join("volumes/.tmp")).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < deadline, "something is left");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn while_it_is_read_it_stays() {
    struct Removing<'a>(&'a VolumeStore, bool);
    impl std::io::Write for Removing<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = matches!(self.0.remove("data"), Err(VolumeError::BackedUp(_)));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.create("data", &labels("x")).unwrap();
    let mut removing = Removing(&store, false);
    store.back_up("data", &mut removing, &never()).unwrap();
    assert!(removing.1);
    let stopped = never();
    stopped.cancel();
    assert!(matches!(store.back_up("data", std::io::sink(), &stopped), Err(VolumeError::Stopped(_))));
    store.remove("data").unwrap();
}

#[test]
fn a_prune_removes_what_is_chosen_and_says_what_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.create("a", &labels("go")).unwrap();
    store.create("b", &labels("stay")).unwrap();
    fs::write(folder.path().join("volumes/a/_data/file"), vec![1; 1 << 20]).unwrap();
    let pruned = store.prune(|volume| volume.labels.contains_key("go"), &never());
    assert_eq!(pruned.names, ["a"]);
    assert!(pruned.bytes >= 1 << 20 && pruned.failure.is_none());
    assert_eq!(store.list().len(), 1);
}

#[test]
fn a_prune_that_fails_in_the_middle_says_what_it_had_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for name in ["a", "b", "c"] {
        store.create(name, &labels("go")).unwrap();
    }
    // Where volumes that are removed are put: without it the disk refuses.
    let graves = folder.path().join("volumes/.tmp");
    let pruned = store.prune(
        |volume| {
            if volume.name == "b" {
                fs::remove_dir_all(&graves).unwrap();
                fs::write(&graves, "").unwrap();
            }
            true
        },
        &never(),
    );
    assert_eq!(pruned.names, ["a"]);
    let failure = pruned.failure.unwrap().to_string();
    assert!(failure.starts_with("removing ") && failure.ends_with("/volumes/b"), "{failure}");
    let left: Vec<_> = store.list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(left, ["b", "c"]);
    let stopped = never();
    stopped.cancel();
    assert!(matches!(store.prune(|_| true, &stopped).failure, Some(VolumeError::Stopped(_))));
}
