//! Hostile archives as a table: each is refused with a message that says what and where, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use common::{Raw, Scratch, pax, raw, scratch, tar};
use coracle_image::{ErrorClass, ImageError, Limits};
use coracle_model::image_ref::ImageReference;

fn name() -> ImageReference {
    ImageReference::parse_tagged("hostile:1").unwrap()
}

fn tight() -> Limits {
    Limits {
        layer_entries: 50,
        uncompressed_bytes: 1 << 20,
        compression_ratio: 20,
        ratio_free_bytes: 64 << 10,
        path_depth: 20,
        path_bytes: 1000,
        entry_attribute_bytes: 500,
        layer_attribute_bytes: 1200,
        extended_header_bytes: 4096,
        ..Limits::default()
    }
}

fn import(scratch: &Scratch, archive: &[u8]) -> Result<coracle_image::ImageRecord, ImageError> {
    scratch.store.import_rootfs(archive, &name(), &[])
}

fn file(path: &str) -> Raw {
    raw(path, b'0').data("x")
}

fn attribute(name: &str, value: &[u8]) -> Raw {
    pax(&[(&format!("SCHILY.xattr.{name}"), value)])
}

#[test]
fn refused_entries() {
    let long_component = "c".repeat(256);
    let cases: Vec<(&str, Vec<Raw>)> = vec![
        // Paths.
        ("'..' component", vec![file("../evil")]),
        ("'..' component", vec![file("a/../../evil")]),
        ("'..' component", vec![raw("..", b'5')]),
        ("'..' component", vec![file("a/..")]),
        ("path is absolute", vec![file("/etc/evil")]),
        ("path is absolute", vec![raw("/", b'5')]),
        ("NUL byte", vec![pax(&[("path", b"a\0b")]), file("x")]),
        ("no name", vec![file("")]),
        ("no name", vec![pax(&[("path", b"")]), file("x")]),
        ("longer than 255", vec![pax(&[("path", long_component.as_bytes())]), file("x")]),
        ("1000 bytes in a path", vec![pax(&[("path", "a/".repeat(600).as_bytes())]), raw("x", b'5')]),
        ("20 components", vec![pax(&[("path", "a/".repeat(21).as_bytes())]), raw("x", b'5')]),
        ("root of the layer", vec![file(".")]),
        // Links as parents.
        ("leads nowhere", vec![raw("out", b'2').link("/etc"), file("out/evil")]),
        ("leads nowhere", vec![raw("out", b'2').link("../../../../../../etc"), file("out/evil")]),
        ("leads nowhere", vec![raw("a", b'2').link("b"), raw("b", b'2').link("a"), file("a/evil")]),
        ("leads nowhere", vec![raw("out", b'2').link("/proc/self/root"), file("out/evil")]),
        ("parent is not a directory", vec![file("a"), file("a/b")]),
        ("parent is not a directory", vec![raw("p", b'6'), file("p/b")]),
        ("parent is not a directory", vec![file("f"), raw("l", b'2').link("f"), file("l/b")]),
        ("replace a directory", vec![raw("d", b'5'), file("d")]),
        ("replace a directory", vec![raw("d", b'5'), raw("d", b'2').link("/etc")]),
        ("target is empty", vec![raw("l", b'2')]),
        ("NUL byte", vec![pax(&[("linkpath", b"a\0b")]), raw("l", b'2').link("x")]),
        // Hard links.
        ("absolute", vec![raw("l", b'1').link("/etc/passwd")]),
        ("'..' component", vec![raw("l", b'1').link("../../etc/passwd")]),
        ("is not in the layer", vec![raw("l", b'1').link("missing")]),
        ("is not in the layer", vec![raw("l", b'1').link("l")]),
        ("is not a regular file", vec![raw("s", b'2').link("/etc/passwd"), raw("l", b'1').link("s")]),
        ("is not a regular file", vec![raw("d", b'5'), raw("l", b'1').link("d")]),
        ("is not a regular file", vec![raw(".wh.gone", b'0'), raw("l", b'1').link("gone")]),
        ("is not a regular file", vec![raw("l", b'1').link(".")]),
        ("is not in the layer", vec![raw("out", b'2').link("/etc"), raw("l", b'1').link("out/passwd")]),
        ("no name", vec![raw("l", b'1')]),
        // Whiteouts.
        ("not a valid whiteout", vec![raw(".wh.", b'0')]),
        ("not a valid whiteout", vec![raw(".wh..", b'0')]),
        ("not a valid whiteout", vec![raw("d/.wh...", b'0')]),
        ("not a valid whiteout", vec![raw(".wh.d", b'5')]),
        ("not a valid whiteout", vec![raw(".wh.d/x", b'0')]),
        ("not a valid whiteout", vec![raw(".wh.x", b'0').data("data")]),
        ("not a valid whiteout", vec![raw(".wh..wh..opq", b'2').link("x")]),
        ("not a valid whiteout", vec![file("f"), raw(".wh.x", b'1').link("f")]),
        // Types and sizes.
        ("type flag 'D' is unknown", vec![raw("x", b'D')]),
        ("type flag '7' is unknown", vec![raw("x", b'7')]),
        ("type flag 'V' is unknown", vec![raw("x", b'V')]),
        ("sparse", vec![raw("x", b'S')]),
        ("sparse", vec![pax(&[("GNU.sparse.major", b"1")]), file("x")]),
        ("2 bytes of data", vec![raw("d", b'5').data("xx")]),
        ("2 bytes of data", vec![file("f"), raw("l", b'1').link("f").data("xx")]),
        ("2 bytes of data", vec![raw("d/", b'0').data("xx")]),
        ("header says 1 bytes, its extended header 600", vec![pax(&[("size", b"600")]), file("x")]),
        ("header says 1 bytes, its extended header 0", vec![pax(&[("size", b"0")]), file("x")]),
        ("size is negative", vec![raw("x", b'0').size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
        ("size does not fit", vec![raw("x", b'0').size(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
        ("size is not an octal", vec![raw("x", b'0').size("0000000009x")]),
        ("not a number", vec![pax(&[("size", b"-1")]), file("x")]),
        ("not a number", vec![pax(&[("size", b"99999999999999999999")]), file("x")]),
        ("ends inside the data", vec![raw("x", b'0').size("77777777777")]),
        ("checksum", vec![file("x").broken()]),
        ("out of range", vec![file("x").user(u64::from(u32::MAX))]),
        ("out of range", vec![pax(&[("gid", b"4294967296")]), file("x")]),
        // Extended headers.
        ("twice", vec![pax(&[("path", b"a"), ("path", b"b")]), file("x")]),
        ("two extended headers", vec![pax(&[("path", b"a")]), pax(&[("path", b"b")]), file("x")]),
        ("two extended headers", vec![raw("L", b'L').data("a"), raw("L", b'L').data("b"), file("x")]),
        ("a GNU and a PAX long name", vec![raw("L", b'L').data("a"), pax(&[("path", b"b")]), file("x")]),
        ("malformed record", vec![raw("x", b'x').data("999 path=a\n"), file("x")]),
        ("after an extended header", vec![pax(&[("path", b"a")])]),
        ("global extended header", vec![Raw { type_flag: b'g', ..pax(&[("size", b"0")]) }, file("x")]),
        ("global extended header", vec![Raw { type_flag: b'g', ..pax(&[("path", b"../x")]) }, file("x")]),
        ("4096 bytes in an extended header", vec![raw("x", b'x').data([b' '; 5000]), file("x")]),
        ("4096 bytes in an extended header", vec![raw("L", b'L').size("77777777777")]),
        ("mtime is not a time", vec![pax(&[("mtime", b"soon")]), file("x")]),
        // Attributes.
        (
            "security.capability attribute is malformed",
            vec![attribute("security.capability", b"junk"), file("x")],
        ),
        ("invalid name", vec![pax(&[("SCHILY.xattr.", b"x")]), file("x")]),
        ("invalid name", vec![attribute("user.", b"x"), file("x")]),
        ("500 bytes of extended attributes on one", vec![attribute("user.a", &[b'x'; 600]), file("x")]),
        (
            "1200 bytes of extended attributes in one layer",
            (0..3)
                .flat_map(|number| [attribute("user.a", &[b'x'; 450]), file(&format!("f{number}"))])
                .collect(),
        ),
        // Quantity.
        ("limit of 50 entries", (0..60).map(|number| file(&format!("f{number}"))).collect()),
        // Each costs some inodes that no entry describes.
        (
            "limit of 50 entries",
            (0..4).map(|number| file(&format!("{number}/{}f", "a/".repeat(15)))).collect(),
        ),
        ("1048576 uncompressed bytes", vec![raw("big", b'0').data(vec![1; 2 << 20])]),
    ];
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let scratch = scratch(tight());
    for (number, (expected, entries)) in cases.iter().enumerate() {
        let case = format!("case {number} ({expected})");
        let error = import(&scratch, &tar(entries)).expect_err(&case);
        let message = error.to_string();
        assert!(message.contains(expected), "{case}: {message}");
        assert!(message.contains("root file system archive"), "{case}: does not name the archive: {message}");
        assert_eq!(error.class(), ErrorClass::BadInput, "{case}: {error:?}");
        scratch.assert_empty(&case);
    }
    assert!(!scratch.directory.path().join("evil").exists() && !std::path::Path::new("/etc/evil").exists());
}

#[test]
fn structural_damage() {
    let good = tar(&[file("a"), raw("b", b'0').data([7; 1000])]);
    let scratch = scratch(tight());
    for length in [100, 512, 600, 1023, 1600, 2100] {
        let error = import(&scratch, &good[..length]).map(|record| record.size);
        if length == 512 {
            assert!(error.unwrap_err().to_string().contains("inside the data"));
        } else {
            assert!(error.is_err(), "cut at {length}");
        }
        scratch.assert_empty(&format!("cut at {length}"));
    }
    let hidden = [tar(&[file("a")])[..1536].to_vec(), tar(&[file("b")])].concat();
    assert!(import(&scratch, &hidden).unwrap_err().to_string().contains("follow a block of zeros"));
    assert!(import(&scratch, &[0; 1024]).unwrap_err().to_string().contains("without any entry"));
    assert!(import(&scratch, b"").unwrap_err().to_string().contains("without any entry"));
    assert!(import(&scratch, &[b'x'; 2000]).unwrap_err().to_string().contains("not a valid tar archive"));
    scratch.assert_empty("structure");
}

#[test]
fn bombs() {
    let scratch = scratch(tight());
    let big = tar(&[raw("zeros", b'0').data(vec![0; 512 << 10])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&big).unwrap();
    for bomb in [gzip.finish().unwrap(), zstd::encode_all(&big[..], 3).unwrap()] {
        let message = import(&scratch, &bomb).unwrap_err().to_string();
        assert!(message.contains("uncompressed bytes per compressed byte"), "{message}");
        scratch.assert_empty("bomb");
    }
    let mut wide = zstd::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(28).unwrap();
    wide.write_all(&big).unwrap();
    assert!(
        import(&scratch, &wide.finish().unwrap()).unwrap_err().to_string().contains("does not decompress")
    );
    scratch.assert_empty("wide window");
}

#[test]
fn a_full_disk_is_told_apart() {
    let scratch = scratch(Limits { disk_reserve_bytes: 1 << 60, ..tight() });
    let error = import(&scratch, &tar(&[file("a")])).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NoSpace);
    assert!(error.to_string().contains("images/tmp/"), "{error}");
    scratch.assert_empty("full disk");
}

/// What is not refused stays inside: a link is read as the container would read it.
#[test]
fn links_stay_inside_of_the_layer() {
    let scratch = scratch(tight());
    let record = import(
        &scratch,
        &tar(&[
            raw("etc", b'5').mode(0o755),
            raw("absolute", b'2').link("/etc"),
            raw("upward", b'2').link("../../../../../../../etc"),
            file("absolute/one"),
            file("upward/two"),
            raw("dir", b'5').mode(0o755),
            raw("dir", b'5').mode(0o700),
            raw("swap", b'2').link("etc"),
            file("swap/three"),
            raw("swap", b'2').link("dir"),
            file("swap/four"),
            file("twice"),
            raw("twice", b'0').data("second"),
            raw("null", b'3'),
            raw("disk", b'4'),
            attribute("trusted.overlay.opaque", b"y"),
            raw("plain", b'5'),
            attribute("user.overlay.whiteout", b"y"),
            file("plain/f"),
        ]),
    )
    .unwrap();
    let root = &scratch.store.prepare(record.manifest).unwrap().lower_dirs[0];
    for path in ["etc/one", "etc/two", "etc/three", "dir/four", "plain/f"] {
        assert!(root.join(path).symlink_metadata().unwrap().is_file(), "{path}");
    }
    assert_eq!(std::fs::read(root.join("twice")).unwrap(), b"second");
    assert_eq!(root.join("dir").metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(!root.join("null").exists() && !root.join("disk").exists());
    for path in ["plain", "plain/f"] {
        let mut names = [0; 256];
        assert_eq!(rustix::fs::listxattr(root.join(path), &mut names[..]).unwrap(), 0, "{path}");
    }
    assert!(!std::path::Path::new("/etc/one").exists() && !std::path::Path::new("/etc/two").exists());
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    let scratch = scratch(tight());
    let record = import(
        &scratch,
        &tar(&[
            raw(".wh.gone", b'0'),
            raw("opaque/.wh..wh..opq", b'0'),
            raw(".wh..wh.plnk", b'0'),
            raw(".wh.kept", b'0'),
            file("kept"),
            file("present"),
            raw(".wh.present", b'0'),
            raw(".wh.fresh", b'0'),
            raw("fresh", b'5').mode(0o755),
        ]),
    )
    .unwrap();
    let root = &scratch.store.prepare(record.manifest).unwrap().lower_dirs[0];
    let gone = root.join("gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(root.join("kept").is_file() && root.join("present").is_file());
    for directory in ["opaque", "fresh"] {
        let mut value = [0; 8];
        let length =
            rustix::fs::getxattr(root.join(directory), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y", "{directory}");
    }
    assert_eq!(root.read_dir().unwrap().count(), 5);
}
