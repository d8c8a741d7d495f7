//! Small sealed files, replaced as a whole.
//!
//! ```text
//! "CRSF" | version u8 | sealed content (associated data: magic, version, the caller's)
//! ```

use std::fs;
use std::path::Path;

use crate::atomic::write_atomic;
use crate::error::SealError;
use crate::keyring::KeyRing;

/// Magic bytes and format version.
const HEADER: &[u8; 5] = b"CRSF\x01";

/// Seals `content` into the file `path`, durably and all or nothing, readable by the owner only.
///
/// `aad` names what the file is; [`read_sealed_file`] must be given the same, so that one sealed file cannot
/// stand in for another.
///
/// # Errors
/// [`SealError::File`] or [`SealError::Cryptography`]; the old file is then still there.
pub fn write_sealed_file(ring: &KeyRing, path: &Path, aad: &[u8], content: &[u8]) -> Result<(), SealError> {
    let mut bytes = HEADER.to_vec();
    ring.seal_into(&full_aad(aad), content, &mut bytes)?;
    write_atomic(path, 0o600, &bytes)
}

/// Reads what [`write_sealed_file`] wrote.
///
/// # Errors
/// [`SealError::File`] when it cannot be read ([`SealError::is_not_found`] when it is not there),
/// [`SealError::DamagedFile`] when it is not what was written for this `aad`, [`SealError::UnknownKey`] when its
/// key is gone.
pub fn read_sealed_file(ring: &KeyRing, path: &Path, aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let bytes = fs::read(path).map_err(SealError::file("reading", path))?;
    let damaged = |what| SealError::DamagedFile { path: path.to_owned(), what };
    let sealed = bytes.strip_prefix(HEADER).ok_or_else(|| damaged("it does not start like a sealed file"))?;
    ring.open(&full_aad(aad), sealed).map_err(|error| match error {
        SealError::Damaged { .. } | SealError::Short { .. } => damaged("its content does not authenticate"),
        other => other,
    })
}

fn full_aad(aad: &[u8]) -> Vec<u8> {
    [HEADER.as_slice(), aad].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_is_read_back_and_bound_to_its_meaning() {
        let directory = tempfile::tempdir().unwrap();
        let ring = KeyRing::open_or_create(directory.path()).unwrap();
        let path = directory.path().join("identity");
        assert!(read_sealed_file(&ring, &path, b"identity").unwrap_err().is_not_found());
        write_sealed_file(&ring, &path, b"identity", b"first").unwrap();
        write_sealed_file(&ring, &path, b"identity", b"second").unwrap();
        assert_eq!(read_sealed_file(&ring, &path, b"identity").unwrap(), b"second");
        assert!(matches!(read_sealed_file(&ring, &path, b"marker"), Err(SealError::DamagedFile { .. })));
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "no temporary file is left: {names:?}");
    }

    #[test]
    fn every_cut_and_flipped_byte_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let ring = KeyRing::in_memory().unwrap();
        let path = directory.path().join("file");
        write_sealed_file(&ring, &path, b"file", b"content").unwrap();
        let whole = fs::read(&path).unwrap();
        for position in 0..whole.len() {
            fs::write(&path, &whole[..position]).unwrap();
            assert!(read_sealed_file(&ring, &path, b"file").is_err(), "cut at {position}");
            let mut damaged = whole.clone();
            damaged[position] ^= 0x40;
            fs::write(&path, &damaged).unwrap();
            assert!(read_sealed_file(&ring, &path, b"file").is_err(), "byte {position}");
        }
    }
}
