use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use rustix::fs::{XattrFlags, mknodat, setxattr};

use super::*;
use crate::builder::LayerBuilder;
use crate::error::Refusal;

mod lists;

struct Place {
    _folder: tempfile::TempDir,
    from: PathBuf,
    to: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    Place { _folder: folder, from, to }
}

fn packed(root: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(fs::File::open(root).unwrap().as_fd(), &mut archive, &|| false).unwrap();
    archive
}

fn unpacked(archive: &[u8], root: &Path) -> Result<TreeReport, ImageError> {
    unpack(archive, root, "test", &Limits::for_trees())
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let Place { _folder, from, to } = place();
    fs::create_dir_all(from.join("deep/deeper")).unwrap();
    fs::write(from.join("deep/deeper/file"), "content").unwrap();
    fs::write(from.join(".wh.ordinary"), "in a volume this is a name like any other").unwrap();
    fs::hard_link(from.join("deep/deeper/file"), from.join("same")).unwrap();
    symlink("/etc/passwd", from.join("deep/link")).unwrap();
    mknodat(rustix::fs::CWD, from.join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    fs::write(from.join("n".repeat(255)), "long").unwrap();
    fs::set_permissions(from.join("same"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o1770)).unwrap();
    let has_attributes = setxattr(from.join("same"), "user.note", b"kept", XattrFlags::empty()).is_ok();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    fs::File::open(from.join("same")).unwrap().set_modified(time).unwrap();

    let archive = packed(&from);
    let report = unpacked(&archive, &to).unwrap();
    assert_eq!((report.entries, report.left_out), (9, 0));
    assert_eq!(packed(&to), archive, "packing what was unpacked gives the same archive");
    let [one, other] = ["deep/deeper/file", "same"].map(|name| fs::metadata(to.join(name)).unwrap());
    assert_eq!((one.ino(), one.mode() & 0o7777), (other.ino(), 0o4751));
    assert_eq!(one.modified().unwrap(), time);
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1770);
    assert_eq!(fs::read_link(to.join("deep/link")).unwrap(), Path::new("/etc/passwd"));
    if has_attributes {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(to.join("same"), "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::FileExt as _;
    let Place { _folder, from, to } = place();
    let sizes = [("ends-with-data", 1_u64 << 30), ("ends-with-hole", 1 << 30), ("only-hole", 1 << 33)];
    for (name, size) in sizes {
        let file = fs::File::create(from.join(name)).unwrap();
        file.set_len(size).unwrap();
        match name {
            "ends-with-data" => file.write_all_at(b"end", size - 3).unwrap(),
            "ends-with-hole" => file.write_all_at(b"middle", 1 << 20).unwrap(),
            _ => {}
        }
    }
    let archive = packed(&from);
    assert!(archive.len() < 1 << 20, "{} bytes", archive.len());
    unpacked(&archive, &to).unwrap();
    for (name, size) in sizes {
        let meta = fs::metadata(to.join(name)).unwrap();
        assert_eq!(meta.len(), size, "{name}");
        assert!(meta.blocks() * 512 < 1 << 20, "{name} takes {} blocks", meta.blocks());
    }
    let mut end = [0; 3];
    fs::File::open(to.join("ends-with-data")).unwrap().read_exact_at(&mut end, (1 << 30) - 3).unwrap();
    assert_eq!(&end, b"end");
    fs::File::open(to.join("ends-with-hole")).unwrap().read_exact_at(&mut end, 1 << 20).unwrap();
    assert_eq!(&end, b"mid");
}

#[test]
fn an_archive_that_was_cut_is_refused() {
    let Place { _folder, from, to } = place();
    fs::write(from.join("a"), "a").unwrap();
    let archive = packed(&from);
    // At the end of the last entry: only the end marker is missing.
    let error = unpacked(&archive[..archive.len() - 1024], &to).unwrap_err();
    assert!(error.to_string().contains("end marker"), "{error}");
}

#[test]
fn nothing_is_written_outside() {
    let Place { _folder, from, to } = place();
    let outside = to.parent().unwrap().join("outside");
    let hostile = [
        LayerBuilder::new().symbolic_link("out", "../outside").file("out/x", 0o644, b"x"),
        LayerBuilder::new().symbolic_link("out", "/").file("out/outside", 0o644, b"x"),
        LayerBuilder::new().file("../outside", 0o644, b"x"),
        LayerBuilder::new().file("/outside", 0o644, b"x"),
        LayerBuilder::new().symbolic_link("l", "../../from").hard_link("h", "l"),
    ];
    for (at, archive) in hostile.into_iter().enumerate() {
        let root = to.join(at.to_string());
        fs::create_dir(&root).unwrap();
        let _ = unpacked(&archive.to_tar().unwrap(), &root);
        assert!(!outside.exists(), "archive {at}");
    }
    assert_eq!(fs::read_dir(&from).unwrap().count(), 0);
}

#[test]
fn names_that_begin_at_the_root_begin_at_the_trees_own() {
    let Place { _folder, from: _, to } = place();
    let archive = LayerBuilder::new()
        .directory("/", 0o1770)
        .directory("/etc", 0o750)
        .file("///etc/own", 0o640, b"inside")
        .hard_link("/again", "/etc/own");
    unpacked(&archive.to_tar().unwrap(), &to).unwrap();
    assert_eq!(fs::read(to.join("etc/own")).unwrap(), b"inside");
    assert_eq!(
        fs::metadata(to.join("again")).unwrap().ino(),
        fs::metadata(to.join("etc/own")).unwrap().ino()
    );
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1770);
}

#[test]
fn names_that_go_up_are_refused_wherever_they_lead() {
    let names = ["../x", "a/../x", "/../x", "a/b/../../../x", ".."];
    let refused = |archive: LayerBuilder| {
        let Place { _folder, from: _, to } = place();
        let error = unpacked(&archive.to_tar().unwrap(), &to).unwrap_err();
        let refusal = match error {
            ImageError::Entry { refusal: Refusal::LinkTargetPath { why, .. }, .. } => *why,
            ImageError::Entry { refusal, .. } => refusal,
            other => panic!("{other}"),
        };
        assert!(matches!(refusal, Refusal::ParentTraversal), "{refusal}");
    };
    for name in names {
        refused(LayerBuilder::new().directory("a", 0o755).file(name, 0o644, b"x"));
        refused(LayerBuilder::new().directory("a", 0o755).hard_link("h", name));
    }
}

#[test]
fn a_copy_takes_the_folder_itself_along() {
    let Place { _folder, from, to } = place();
    fs::write(from.join("file"), "content").unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o2755)).unwrap();
    let report = copy(fs::File::open(&from).unwrap().as_fd(), &to, &Limits::for_trees()).unwrap();
    assert_eq!((report.entries, report.bytes), (2, 7));
    assert_eq!(packed(&to), packed(&from));
}

#[test]
fn a_copy_tells_the_first_cause() {
    let Place { _folder, from, to } = place();
    fs::write(from.join("file"), vec![1; 1 << 20]).unwrap();
    let limits = Limits { disk_reserve_bytes: 0, path_bytes: 3, ..Limits::for_trees() };
    let error = copy(fs::File::open(&from).unwrap().as_fd(), &to, &limits).unwrap_err();
    assert!(matches!(error, CopyError::Unpack(ImageError::Limit { .. })), "{error}");
}

#[test]
fn packing_stops_when_it_is_told() {
    let Place { _folder, from, .. } = place();
    fs::write(from.join("file"), "content").unwrap();
    let stopped = pack(fs::File::open(&from).unwrap().as_fd(), io::sink(), &|| true);
    assert!(matches!(stopped, Err(PackError::Stopped)));
}

#[test]
fn layers_still_refuse_sparse_files() {
    let Place { _folder, from, to } = place();
    fs::File::create(from.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let result = crate::unpack::unpack_layer(&packed(&from)[..], &to, "test", &Limits::default());
    assert!(
        matches!(result, Err(ImageError::Entry { refusal: Refusal::Sparse, .. })),
        "{:?}",
        result.map(|unpacked| unpacked.report)
    );
}

#[test]
fn what_a_tree_takes_counts_links_once_and_holes_not() {
    let Place { _folder, from, .. } = place();
    fs::create_dir(from.join("below")).unwrap();
    fs::write(from.join("below/file"), vec![1; 1 << 20]).unwrap();
    fs::hard_link(from.join("below/file"), from.join("same")).unwrap();
    fs::File::create(from.join("hole")).unwrap().set_len(1 << 30).unwrap();
    symlink("/usr", from.join("elsewhere")).unwrap();
    let root = fs::File::open(&from).unwrap();
    let size = measure(root.as_fd(), &|| false).unwrap().unwrap();
    assert_eq!(size.inodes, 5);
    assert!(((1 << 20)..(1 << 20) + (128 << 10)).contains(&size.bytes), "{}", size.bytes);
    assert_eq!(measure(root.as_fd(), &|| true).unwrap(), None);
}

/// What is made in a directory inherits its default list, but what an archive brings has only what it had.
#[test]
fn access_control_lists_come_back_and_are_not_inherited() {
    const ACCESS: &str = "system.posix_acl_access";
    const DEFAULT: &str = "system.posix_acl_default";
    let Place { _folder, from, to } = place();
    for name in ["dir", "dir/before"] {
        fs::create_dir(from.join(name)).unwrap();
    }
    fs::write(from.join("dir/file"), "").unwrap();
    // Version 2; then tag, permissions and id of each (linux/posix_acl_xattr.h): user 1000 may do everything.
    let entries =
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    if setxattr(from.join("dir"), DEFAULT, &list, XattrFlags::empty()).is_err() {
        return;
    }
    fs::write(from.join("dir/heir"), "").unwrap();
    unpacked(&packed(&from), &to).unwrap();
    let has = |name: &str, list: &str| rustix::fs::getxattr(to.join(name), list, &mut [0; 64][..]).is_ok();
    assert!(has("dir", DEFAULT) && has("dir/heir", ACCESS));
    assert!(!has("dir/file", ACCESS) && !has("dir/before", ACCESS) && !has("dir/before", DEFAULT));
    assert_eq!(packed(&to), packed(&from));
}

#[test]
fn large_attributes_come_back() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("file"), "").unwrap();
    for name in ["user.one", "user.two"] {
        if setxattr(from.join("file"), name, &vec![b'x'; 40 << 10], XattrFlags::empty()).is_err() {
            return;
        }
    }
    let limits = Limits { disk_reserve_bytes: 0, ..Limits::for_trees() };
    unpack(&packed(&from)[..], &to, "test", &limits).unwrap();
    assert_eq!(packed(&to), packed(&from));
}

/// The kernel takes any byte in a name but NUL; in an archive the first `=` of a record ends its key.
#[test]
fn attributes_come_back_whatever_their_names_are() {
    let Place { _folder, from, to } = place();
    fs::write(from.join("file"), "").unwrap();
    let names = ["user.=x", "user.a=1", "user.a=2", "user.50%", "user.%3D", "user.line\nline"];
    for name in names {
        if setxattr(from.join("file"), name, name.as_bytes(), XattrFlags::empty()).is_err() {
            return;
        }
    }
    let archive = packed(&from);
    for written in ["user.%3Dx=", "user.a%3D1=", "user.50%25=", "user.%253D="] {
        let written = written.as_bytes();
        assert!(archive.windows(written.len()).any(|window| window == written), "as GNU tar writes them");
    }
    unpacked(&archive, &to).unwrap();
    for name in names {
        let mut value = [0; 32];
        let length = rustix::fs::getxattr(to.join("file"), name, &mut value[..]).unwrap();
        assert_eq!(&value[..length], name.as_bytes());
    }
    assert_eq!(packed(&to), archive);
}

/// What would not be unpacked again is not packed either.
#[test]
fn more_attributes_than_are_unpacked_are_not_packed() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for number in 0..260 {
        let name = format!("user.{number}");
        if setxattr(folder.path().join("file"), name, &vec![b'x'; 64 << 10], XattrFlags::empty()).is_err() {
            return;
        }
    }
    let root = fs::File::open(folder.path()).unwrap();
    let error = pack(root.as_fd(), io::sink(), &|| false).unwrap_err();
    assert!(matches!(error, PackError::ManyAttributes(_)), "{error}");
}

/// Does something once, when `at` has been written.
struct Meanwhile<'a> {
    at: &'a [u8],
    then: Option<Box<dyn FnOnce() + 'a>>,
}

impl io::Write for Meanwhile<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.starts_with(self.at)
            && let Some(then) = self.then.take()
        {
            then();
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_that_change_while_they_are_read_are_counted() {
    use std::os::unix::fs::FileExt as _;
    const SIZE: u64 = 1 << 20;
    type Change = fn(&fs::File);
    let changes: [(&str, bool, Change); 7] = [
        ("nothing happens", false, |_| {}),
        ("rewritten in place", false, |file| file.write_all_at(b"new", 0).unwrap()),
        ("grown", false, |file| file.write_all_at(b"more", SIZE).unwrap()),
        ("cut", false, |file| file.set_len(10).unwrap()),
        ("a sparse file is cut", true, |file| file.set_len(SIZE / 2).unwrap()),
        ("a hole becomes data", true, |file| file.write_all_at(b"data", 10).unwrap()),
        ("the mode changes", false, |file| file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap()),
    ];
    for (what, is_sparse, change) in changes {
        let Place { _folder, from, .. } = place();
        let file = fs::File::create(from.join("file")).unwrap();
        if is_sparse {
            file.set_len(SIZE).unwrap();
            file.write_all_at(b"end", SIZE - 3).unwrap();
        } else {
            file.write_all_at(&vec![1; SIZE as usize], 0).unwrap();
        }
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        // The file's own header: its status was looked at, its data was not read yet.
        let at: &[u8] = if is_sparse { b"GNUSparseFile.0/data" } else { b"file" };
        let mut sink = Meanwhile { at, then: Some(Box::new(|| change(&file))) };
        let report = pack(fs::File::open(&from).unwrap().as_fd(), &mut sink, &|| false).unwrap();
        assert!(sink.then.is_none());
        assert_eq!(report.changed, u64::from(what != "nothing happens"), "{what}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn a_label_reaches_everything_below_and_the_root_last() {
    use rustix::fs::{lgetxattr, lsetxattr};
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to set security attributes");
        return;
    }
    let place = place();
    let root = place.from.join("labelled");
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/file"), "x").unwrap();
    symlink("/etc/passwd", root.join("deep/link")).unwrap();
    let outside = fs::metadata("/etc/passwd").unwrap();
    let label = |path: &str| {
        let mut told = [0; 64];
        let length = lgetxattr(root.join(path), "security.selinux", &mut told).unwrap_or(0);
        String::from_utf8_lossy(&told[..length]).into_owned()
    };
    let set = || set_label(fs::File::open(&root).unwrap().as_fd(), "u:object_r:t:s0:c1,c2");
    set().unwrap();
    for path in ["", "deep", "deep/er", "deep/er/file", "deep/link"] {
        assert_eq!(label(path), "u:object_r:t:s0:c1,c2", "{path:?}");
    }
    assert_eq!(fs::metadata("/etc/passwd").unwrap().ctime(), outside.ctime(), "no link is followed");
    // The root has it, so all that was there has.
    let other = |path: &str| {
        lsetxattr(root.join(path), "security.selinux", b"other\0", XattrFlags::empty()).unwrap();
    };
    other("deep");
    set().unwrap();
    assert_eq!(label("deep"), "other\0");
    other("");
    set().unwrap();
    assert_eq!(label("deep"), "u:object_r:t:s0:c1,c2");
}
