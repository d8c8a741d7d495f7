//! What others do meanwhile, and what they are told.

use super::*;

#[test]
fn of_several_who_make_one_at_once_all_get_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..20 {
        let name = format!("v{round}");
        let made: Vec<VolumeInfo> = std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| store.create(&name, &labels("x")).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(made.iter().all(|volume| *volume == made[0]), "{made:?}");
    }
}

#[test]
fn what_changes_is_noticed_and_what_is_gone_from_the_disk_is_not_given() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut changes = store.changes();
    store.create("data", &labels("x")).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    store.remove("data").unwrap();
    assert!(changes.has_changed().unwrap(), "managers are told that it is gone");
    store.create("data", &labels("x")).unwrap();
    let data = store.folder("data");
    assert_eq!(
        fs::metadata(&data).unwrap().permissions().mode() & 0o7777,
        0o755,
        "programs of others may enter"
    );
    fs::remove_dir(&data).unwrap();
    let labels = BTreeMap::new();
    let taken = store.take(&user(1), Wanted { name: "data", labels: &labels, is_own: false }, None);
    assert!(matches!(taken, Err(VolumeError::Unusable { .. })), "{taken:?}");
    assert_eq!(store.get("data").unwrap().users, []);
}

/// An archive in whose middle somebody else does something.
struct Meanwhile<'a, F: FnMut()>(&'a [u8], F);

impl<F: FnMut()> std::io::Read for Meanwhile<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (self.1)();
        self.0.read(buffer)
    }
}

#[test]
fn a_restoration_looks_before_the_work_and_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.create("from", &labels("x")).unwrap();
    let mut archive = Vec::new();
    store.back_up("from", &mut archive, &never()).unwrap();
    let mut was_read = false;
    let refused = store.restore("from", &labels("y"), false, Meanwhile(&archive, || was_read = true));
    assert!(matches!(refused, Err(VolumeError::Exists(_))) && !was_read, "nothing is read for nothing");
    // Somebody makes one of this name meanwhile; somebody begins to use the one that is to be replaced.
    let made = || drop(store.create("to", &labels("first")));
    let refused = store.restore("to", &labels("second"), false, Meanwhile(&archive, made));
    assert!(matches!(refused, Err(VolumeError::Exists(_))), "{refused:?}");
    let used = || drop(take(&store, &user(1), "to", None));
    let refused = store.restore("to", &labels("second"), true, Meanwhile(&archive, used));
    assert!(matches!(refused, Err(VolumeError::InUse { .. })), "{refused:?}");
    assert_eq!(store.get("to").unwrap().labels, labels("first"));
    until_nothing_is_left(folder.path());
}
