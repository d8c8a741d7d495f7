//! Small sealed files, replaced as a whole.
//!
//! ```text
//! "CRSF" | version u8 | sealed content (associated data: magic, version, the caller's)
//! ```

use std::ffi::OsStr;
use std::path::Path;

use coracle_disk::{DiskStorage, Storage, read_whole};

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
    let (storage, name) = parts(path, "writing")?;
    write_sealed(ring, &storage, name, aad, content)
}

/// Reads what [`write_sealed_file`] wrote.
///
/// # Errors
/// [`SealError::File`] when it cannot be read ([`SealError::is_not_found`] when it is not there),
/// [`SealError::DamagedFile`] when it is not what was written for this `aad`, [`SealError::KeyOfFile`] when its
/// key is gone.
pub fn read_sealed_file(ring: &KeyRing, path: &Path, aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let (storage, name) = parts(path, "reading")?;
    read_sealed(ring, &storage, name, aad)
}

/// Like [`write_sealed_file`], for the file `name` of a storage.
///
/// # Errors
/// As [`write_sealed_file`].
pub fn write_sealed(
    ring: &KeyRing,
    storage: &dyn Storage,
    name: &str,
    aad: &[u8],
    content: &[u8],
) -> Result<(), SealError> {
    let mut bytes = HEADER.to_vec();
    ring.seal_into(&full_aad(aad), content, &mut bytes)?;
    write_atomic(storage, name, &bytes)
}

/// Like [`read_sealed_file`], for the file `name` of a storage.
///
/// # Errors
/// As [`read_sealed_file`].
pub fn read_sealed(
    ring: &KeyRing,
    storage: &dyn Storage,
    name: &str,
    aad: &[u8],
) -> Result<Vec<u8>, SealError> {
    let path = storage.path().join(name);
    let bytes = read_whole(storage, name).map_err(SealError::file("reading", &path))?;
    let damaged = |what| SealError::DamagedFile { path: path.clone(), what };
    let sealed = bytes.strip_prefix(HEADER).ok_or_else(|| damaged("it does not start like a sealed file"))?;
    ring.open(&full_aad(aad), sealed).map_err(|error| match error {
        SealError::Damaged { .. } | SealError::Short { .. } => damaged("its content does not authenticate"),
        SealError::UnknownKey { key_id } => SealError::KeyOfFile { path: path.clone(), key_id },
        other => other,
    })
}

/// The directory and the name of a file.
fn parts<'path>(path: &'path Path, operation: &'static str) -> Result<(DiskStorage, &'path str), SealError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = || SealError::file(operation, path);
    let name = path
        .file_name()
        .and_then(OsStr::to_str)
        .ok_or_else(|| failed()(std::io::ErrorKind::InvalidFilename.into()))?;
    Ok((DiskStorage::existing(directory).map_err(failed())?, name))
}

fn full_aad(aad: &[u8]) -> Vec<u8> {
    [HEADER.as_slice(), aad].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
