use std::fs;

use proptest::prelude::*;

use super::*;
use crate::wrapping::UnlockKey;

#[test]
fn a_value_opens_again_after_the_ring_was_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let sealed = KeyRing::open_or_create(directory.path()).unwrap().seal(b"log 7", b"secret").unwrap();
    let reopened = KeyRing::open_or_create(directory.path()).unwrap();
    assert_eq!(reopened.open(b"log 7", &sealed).unwrap(), b"secret");
    assert!(!sealed.windows(6).any(|window| window == b"secret"));
}

#[test]
fn a_value_does_not_open_in_another_place_or_ring() {
    let ring = KeyRing::in_memory().unwrap();
    let sealed = ring.seal(b"log 7", b"secret").unwrap();
    assert!(matches!(ring.open(b"log 8", &sealed), Err(SealError::Damaged { key_id: 1 })));
    assert!(matches!(KeyRing::in_memory().unwrap().open(b"log 7", &sealed), Err(SealError::Damaged { .. })));
}

#[test]
fn an_unknown_key_id_is_named() {
    let ring = KeyRing::in_memory().unwrap();
    ring.rotate().unwrap();
    let sealed = ring.seal(b"", b"x").unwrap();
    assert!(matches!(
        KeyRing::in_memory().unwrap().open(b"", &sealed),
        Err(SealError::UnknownKey { key_id: 2 })
    ));
}

#[test]
fn older_values_open_after_a_rotation_and_until_their_key_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let ring = KeyRing::open_or_create(directory.path()).unwrap();
    let old = ring.seal(b"", b"old").unwrap();
    assert_eq!(ring.rotate().unwrap(), 2);
    let new = ring.seal(b"", b"new").unwrap();
    let reopened = KeyRing::open_or_create(directory.path()).unwrap();
    assert_eq!(reopened.current_key_id(), 2);
    assert_eq!(reopened.open(b"", &old).unwrap(), b"old");
    reopened.forget_before(2).unwrap();
    assert!(matches!(reopened.open(b"", &old), Err(SealError::UnknownKey { key_id: 1 })));
    assert_eq!(KeyRing::open_or_create(directory.path()).unwrap().open(b"", &new).unwrap(), b"new");
}

#[test]
fn autolock_needs_the_unlock_key_and_can_be_undone() {
    let directory = tempfile::tempdir().unwrap();
    let ring = KeyRing::open_or_create(directory.path()).unwrap();
    let sealed = ring.seal(b"", b"value").unwrap();
    let key = UnlockKey::generate().unwrap();
    ring.rewrap(&Wrapping::UnlockKey(key.clone())).unwrap();
    assert!(ring.is_locked_by_operator());
    assert!(!directory.path().join("wrapping-key").exists());

    assert!(matches!(KeyRing::open_or_create(directory.path()), Err(SealError::Locked { .. })));
    let wrong = Wrapping::UnlockKey(UnlockKey::generate().unwrap());
    let refused = KeyRing::open_or_create_with(directory.path(), &wrong);
    assert!(matches!(refused, Err(SealError::WrongWrappingKey { .. })));

    let typed: UnlockKey = key.reveal().parse().unwrap();
    let unlocked = KeyRing::open_or_create_with(directory.path(), &Wrapping::UnlockKey(typed)).unwrap();
    assert_eq!(unlocked.open(b"", &sealed).unwrap(), b"value");
    unlocked.rewrap(&Wrapping::File).unwrap();
    assert_eq!(KeyRing::open_or_create(directory.path()).unwrap().open(b"", &sealed).unwrap(), b"value");
}

#[test]
fn a_lost_wrapping_key_is_refused_and_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    KeyRing::open_or_create(directory.path()).unwrap();
    fs::remove_file(directory.path().join("wrapping-key")).unwrap();
    assert!(matches!(KeyRing::open_or_create(directory.path()), Err(SealError::WrappingKeyMissing { .. })));
    assert!(!directory.path().join("wrapping-key").exists());
}

#[test]
fn a_wrapping_key_of_another_ring_is_refused() {
    let (mine, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    KeyRing::open_or_create(mine.path()).unwrap();
    KeyRing::open_or_create(other.path()).unwrap();
    fs::copy(other.path().join("wrapping-key"), mine.path().join("wrapping-key")).unwrap();
    assert!(matches!(KeyRing::open_or_create(mine.path()), Err(SealError::WrongWrappingKey { .. })));
}

#[test]
fn every_flipped_bit_and_every_cut_of_the_keyring_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    KeyRing::open_or_create(directory.path()).unwrap();
    let path = directory.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        assert!(KeyRing::open_or_create(directory.path()).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(KeyRing::open_or_create(directory.path()).is_err(), "cut at {length}");
    }
}

#[test]
fn files_are_private_and_debug_shows_no_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let ring = KeyRing::open_or_create(directory.path()).unwrap();
    for name in ["keyring", "wrapping-key"] {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(format!("{ring:?}"), "KeyRing { current: 1, key_ids: [1], .. }");
    assert_eq!(format!("{:?}", UnlockKey::generate().unwrap()), "UnlockKey(..)");
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_any_change_is_noticed(
        aad in proptest::collection::vec(any::<u8>(), 0..40),
        plaintext in proptest::collection::vec(any::<u8>(), 0..300),
        position in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let ring = KeyRing::in_memory().unwrap();
        let mut sealed = ring.seal(&aad, &plaintext).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + crate::OVERHEAD);
        prop_assert_eq!(&ring.open(&aad, &sealed).unwrap(), &plaintext);
        let at = position.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert!(ring.open(&aad, &sealed).is_err());
    }

    #[test]
    fn opening_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(KeyRing::in_memory().unwrap().open(b"", &bytes).is_err());
    }

    #[test]
    fn parsing_an_unlock_key_never_panics(text in ".{0,90}") {
        let _ = text.parse::<UnlockKey>();
    }
}
