//! Access control lists that are lost: nobody gets more than they gave, and it is told.

use super::*;
use crate::tar::{EntryKind, NewEntry, TarWriter};

const ACCESS: &str = "system.posix_acl_access";

/// Version 2; then tag, permissions and id of each (linux/posix_acl_xattr.h): user 1000 may read and write, the owning group
/// nothing. Such a file's mode is 0660.
fn list() -> Vec<u8> {
    let entries = [(1_u16, 6_u16), (2, 6), (4, 0), (16, 6), (32, 0)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        let id = if tag == 2 { 1000 } else { u32::MAX };
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    list
}

/// An archive of a file, a directory and a pipe with this attribute and this record.
fn archive(attributes: &[(Vec<u8>, Vec<u8>)], records: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (path, kind) in
        [("file", EntryKind::File), ("directory", EntryKind::Directory), ("pipe", EntryKind::Fifo)]
    {
        let entry = NewEntry { kind, mode: 0o660, attributes, records, ..NewEntry::file(path, 0) };
        writer.append_bytes(&entry, b"").unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_list_that_is_lost_gives_nobody_more() {
    let Place { _folder, from: _, to } = place();
    let limits = Limits { disk_reserve_bytes: 0, ..Limits::for_trees() };
    let archive = archive(&[(ACCESS.as_bytes().to_vec(), list())], &[]);
    let report = unpack(&archive[..], &to, "test", &limits).unwrap();
    let mode = |name: &str| fs::symlink_metadata(to.join(name)).unwrap().mode() & 0o7777;
    let has_list = |name: &str| rustix::fs::lgetxattr(to.join(name), ACCESS, &mut [0; 64][..]).is_ok();
    // Depends on the file system (a ramfs keeps none); a pipe's is never kept.
    for name in ["file", "directory", "pipe"] {
        assert_eq!(mode(name), if has_list(name) { 0o660 } else { 0o600 }, "{name}");
    }
    assert!(!has_list("pipe"));
    let lost = ["file", "directory", "pipe"].iter().filter(|name| !has_list(name)).count();
    assert_eq!(report.attributes_left_out, lost as u64);
}

#[test]
fn lists_as_text_are_refused() {
    let Place { _folder, from: _, to } = place();
    let text = b"user::rw-\nuser:bob:rw-\ngroup::---\nmask::rw-\nother::---\n".to_vec();
    let records = [("SCHILY.acl.access", text)];
    let error = unpacked(&archive(&[], &records), &to).unwrap_err();
    assert!(matches!(error, ImageError::Entry { refusal: Refusal::TextLists, .. }), "{error}");
    // `tar --acls --xattrs` writes both, and plain ones as text only.
    let plain = [("SCHILY.acl.access", b"user::rw-\ngroup::r--\nother::---\n".to_vec())];
    unpacked(&archive(&[], &plain), &to).unwrap();
    let other = place();
    unpacked(&archive(&[(ACCESS.as_bytes().to_vec(), list())], &records), &other.to).unwrap();
}
