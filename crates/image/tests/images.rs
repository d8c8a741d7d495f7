//! Good archives, transfer between stores, crashes, collection; and the system's tar as an independent reader.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use common::{listing, scratch};
use coracle_image::builder::{BuiltImage, ImageBuilder, LayerBuilder, Packing};
use coracle_image::{ErrorClass, ImageError, ImageStore, Limits, Platform};
use coracle_model::digest::Digest;
use coracle_model::image_ref::ImageReference;

fn reference(text: &str) -> ImageReference {
    text.parse().unwrap()
}

fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

fn base() -> LayerBuilder {
    LayerBuilder::new()
        .directory("bin/", 0o755)
        .file("bin/app", 0o4755, vec![1; 3000])
        .hard_link("bin/same", "bin/app")
        .symbolic_link("bin/link", "app")
        .directory("tmp", 0o1777)
        .modified_at(1_600_000_000)
        .file("tmp/f", 0o600, "text")
        .owned_by(1000, 2000)
        .attribute("user.note", b"kept")
        .fifo("pipe", 0o640)
        .file(&format!("long/{}", "n".repeat(200)), 0o644, "")
}

fn built(packing: Packing) -> BuiltImage {
    ImageBuilder::new()
        .platform(amd64())
        .name(reference("demo:1"))
        .layer(base().packed(packing))
        .layer(LayerBuilder::new().whiteout("tmp/f").file("etc/motd", 0o644, "hello").packed(packing))
        .change("CMD [\"/bin/app\"]".parse().unwrap())
        .change("ENV A=1".parse().unwrap())
        .build()
        .unwrap()
}

fn archive(image: &BuiltImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_archive(&mut bytes).unwrap();
    bytes
}

#[test]
fn archives_of_all_forms_load() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let image = built(packing);
        let mut docker = Vec::new();
        image.write_docker_archive(&mut docker).unwrap();
        for outer in [archive(&image), docker.clone(), zstd::encode_all(&docker[..], 1).unwrap()] {
            let scratch = scratch(Limits::default());
            let records = scratch.store.load_archive(&outer[..]).unwrap();
            assert_eq!(records.len(), 1);
            assert_eq!(
                records[0].manifest,
                image.digest(),
                "{packing:?}: synthesised and given manifests agree"
            );
            assert_eq!(records[0].names, [reference("demo:1")]);
            assert_eq!(scratch.store.list().unwrap(), records);
            assert_eq!(scratch.store.find(&reference("demo:1")).unwrap().as_ref(), Some(&records[0]));
            let prepared = scratch.store.prepare(image.digest()).unwrap();
            assert_eq!(prepared.config.command, ["/bin/app"]);
            assert_eq!(prepared.lower_dirs.len(), 2);
            assert!(prepared.lower_dirs[0].join("etc/motd").is_file(), "top first");
            assert!(scratch.entries("tmp").is_empty());
            // Loading again changes nothing.
            assert_eq!(scratch.store.load_archive(&outer[..]).unwrap(), records);
        }
    }
}

#[test]
fn metadata_is_kept() {
    let scratch = scratch(Limits::default());
    let image = built(Packing::Gzip);
    scratch.store.load_archive(&archive(&image)[..]).unwrap();
    let root = scratch.store.prepare(image.digest()).unwrap().lower_dirs[1].clone();
    let status = |path: &str| root.join(path).symlink_metadata().unwrap();
    assert_eq!(status("bin/app").mode() & 0o7777, 0o4755);
    assert_eq!(status("bin/app").ino(), status("bin/same").ino());
    assert_eq!(status("pipe").mode(), 0o010_640);
    assert_eq!((status("tmp").mode() & 0o7777, status("tmp").mtime()), (0o1777, 1_600_000_000));
    assert_eq!((status("tmp/f").uid(), status("tmp/f").gid()), (1000, 2000));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(root.join("tmp/f"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
    assert_eq!(status("").mode() & 0o7777, 0o755);
}

/// The system's tar sees the same entries as the extractor.
#[test]
fn the_system_tar_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = base().to_tar().unwrap();
    let path = directory.path().join("layer.tar");
    std::fs::write(&path, &bytes).unwrap();
    let out = directory.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let status = Command::new("tar").args(["-xpf"]).arg(&path).arg("-C").arg(&out).status().unwrap();
    assert!(status.success());
    let listed = Command::new("tar").arg("-tf").arg(&path).output().unwrap().stdout;
    let listed: BTreeSet<String> = String::from_utf8(listed)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches('/').to_owned())
        .collect();

    let scratch = scratch(Limits::default());
    let record = scratch.store.import_rootfs(&bytes[..], &reference("root:1"), &[]).unwrap();
    let ours = listing(&scratch.store.prepare(record.manifest).unwrap().lower_dirs[0]);
    assert_eq!(ours, listing(&out));
    assert!(listed.iter().all(|name| ours.contains_key(name)), "{listed:?}");

    // And the other way round: what the system's tar packs, in each format, unpacks to the same tree.
    for format in ["gnu", "pax", "ustar"] {
        let packed = directory.path().join(format);
        let mut pack = Command::new("tar");
        pack.arg(format!("--format={format}")).arg("-cf").arg(&packed).arg("-C").arg(&out);
        if format == "ustar" {
            pack.arg("--exclude=nnn*");
        }
        assert!(pack.arg(".").status().unwrap().success());
        let file = std::fs::File::open(&packed).unwrap();
        let record = scratch.store.import_rootfs(file, &reference(&format!("{format}:1")), &[]).unwrap();
        let mut again = listing(&scratch.store.prepare(record.manifest).unwrap().lower_dirs[0]);
        again.extend(
            ours.iter()
                .filter(|(name, _)| format == "ustar" && name.contains("nnn"))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        assert_eq!(again, ours, "{format}");
    }
}

fn transfer(from: &ImageStore, to: &ImageStore, manifest: Digest) -> Result<(), ImageError> {
    let blobs = from.manifest_blobs(manifest)?;
    assert_eq!(blobs[0].digest, manifest);
    for blob in blobs {
        if to.has_blob(blob.digest, blob.size) {
            continue;
        }
        let (mut file, size) = from.blob_reader(blob.digest)?;
        assert_eq!(size, blob.size);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        let mut writer = to.begin(blob.digest, blob.size)?;
        for piece in bytes.chunks(777) {
            writer.write(piece)?;
        }
        writer.commit()?;
    }
    to.finish_fetch(manifest, &[reference("fetched:1")]).map(drop)
}

#[test]
fn images_travel_between_nodes() {
    let (holder, fetcher) = (scratch(Limits::default()), scratch(Limits::default()));
    let image = built(Packing::Zstd);
    holder.store.load_archive(&archive(&image)[..]).unwrap();
    assert!(!fetcher.store.has(image.digest()));
    let missing = fetcher.store.finish_fetch(image.digest(), &[]).unwrap_err();
    assert_eq!(missing.class(), ErrorClass::Absent);
    transfer(&holder.store, &fetcher.store, image.digest()).unwrap();
    assert!(fetcher.store.has(image.digest()));
    let one = |store: &ImageStore| store.prepare(image.digest()).unwrap();
    assert_eq!(one(&holder.store).config, one(&fetcher.store).config);
    for (here, there) in one(&holder.store).lower_dirs.iter().zip(&one(&fetcher.store).lower_dirs) {
        assert_eq!(listing(here), listing(there));
    }
    let mut exported = Vec::new();
    fetcher.store.export_archive(&[image.digest()], &mut exported).unwrap();
    let third = scratch(Limits::default());
    assert_eq!(third.store.load_archive(&exported[..]).unwrap()[0].names, [reference("fetched:1")]);
}

#[test]
fn wrong_bytes_are_not_kept() {
    let scratch = scratch(Limits::default());
    let image = built(Packing::Plain);
    let digest = image.digest();
    let manifest = image.blob(digest).unwrap();
    let mut changed = manifest.to_vec();
    changed[5] ^= 1;
    let size = manifest.len() as u64;

    let mut writer = scratch.store.begin(digest, size).unwrap();
    writer.write(&changed).unwrap();
    let error = writer.commit().unwrap_err();
    let ImageError::DigestMismatch { expected, actual, .. } = &error else { panic!("{error:?}") };
    assert!(*expected == digest && *actual != digest);
    assert!(
        error.to_string().contains(&digest.to_string()) && error.to_string().contains(&actual.to_string())
    );

    let mut writer = scratch.store.begin(digest, size).unwrap();
    assert!(writer.write(&[manifest, b"x"].concat()).unwrap_err().to_string().contains("expected"));
    drop(writer);
    let mut writer = scratch.store.begin(digest, size).unwrap();
    writer.write(&manifest[1..]).unwrap();
    assert!(matches!(writer.commit(), Err(ImageError::SizeMismatch { .. })));
    assert!(matches!(scratch.store.begin(digest, u64::MAX), Err(ImageError::Limit { .. })));
    scratch.assert_empty("wrong bytes");
}

/// A configuration that names another layer than the one that comes.
#[test]
fn a_layer_must_have_its_uncompressed_digest() {
    let scratch = scratch(Limits::default());
    let (one, other) = (built(Packing::Plain), built(Packing::Gzip));
    let text = String::from_utf8(one.blob(one.digest()).unwrap().to_vec()).unwrap();
    let wrong = ImageBuilder::new().platform(amd64()).layer(base()).layer(base()).build().unwrap();
    // The manifest of one image with the configuration of the other: sizes and digests of blobs are right, layers are not.
    let config =
        |image: &BuiltImage| (image.blob_digests()[1], image.blob(image.blob_digests()[1]).unwrap().len());
    let text = text
        .replace(&config(&one).0.to_string(), &config(&wrong).0.to_string())
        .replace(&format!("\"size\":{}", config(&one).1), &format!("\"size\":{}", config(&wrong).1));
    let put = |bytes: &[u8], digest: Digest| {
        let mut writer = scratch.store.begin(digest, bytes.len() as u64).unwrap();
        writer.write(bytes).unwrap();
        writer.commit()
    };
    for image in [&one, &wrong, &other] {
        for digest in image.blob_digests() {
            put(image.blob(digest).unwrap(), digest).unwrap();
        }
    }
    let Err(ImageError::DigestMismatch { actual: manifest, .. }) = put(text.as_bytes(), one.digest())
        .map_err(|error| match error {
            ImageError::SizeMismatch { .. } => panic!("{error}"),
            error => error,
        })
    else {
        panic!("changed manifest accepted under the old digest")
    };
    put(text.as_bytes(), manifest).unwrap();
    let error = scratch.store.finish_fetch(manifest, &[]).unwrap_err();
    assert!(error.to_string().contains("uncompressed layer"), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
    assert!(!scratch.store.has(manifest) && scratch.entries("tmp").is_empty());
}

#[test]
fn names_belong_to_one_image() {
    let scratch = scratch(Limits::default());
    let first = built(Packing::Plain);
    scratch.store.load_archive(&archive(&first)[..]).unwrap();
    let second = built(Packing::Gzip);
    scratch.store.load_archive(&archive(&second)[..]).unwrap();
    assert_eq!(scratch.store.find(&reference("demo:1")).unwrap().unwrap().manifest, second.digest());
    assert_eq!(scratch.store.get(first.digest()).unwrap().names, []);
    scratch.store.tag(first.digest(), &reference("demo:1")).unwrap();
    assert_eq!(scratch.store.get(second.digest()).unwrap().names, []);
    assert!(
        scratch.store.untag(&reference("demo:1")).unwrap()
            && !scratch.store.untag(&reference("demo:1")).unwrap()
    );
    assert!(scratch.store.find(&reference("demo:1")).unwrap().is_none());
}

#[test]
fn collection_keeps_what_is_referred_to() {
    let scratch = scratch(Limits::default());
    let (plain, packed) = (built(Packing::Plain), built(Packing::Gzip));
    for image in [&plain, &packed] {
        scratch.store.load_archive(&archive(image)[..]).unwrap();
    }
    // Both have the same layers once unpacked.
    assert_eq!(scratch.entries("layers").len(), 2);
    let usage = scratch.store.disk_usage().unwrap();
    assert_eq!((usage.images, usage.reclaimable_bytes), (2, 0));
    assert_eq!(scratch.store.collect(&BTreeSet::new()).unwrap().blobs, 0);
    assert!(scratch.store.remove(plain.digest()).unwrap() && !scratch.store.remove(plain.digest()).unwrap());
    assert!(scratch.store.disk_usage().unwrap().reclaimable_bytes > 0);
    assert_eq!(
        scratch.store.collect(&BTreeSet::from([plain.digest()])).unwrap().blobs,
        0,
        "kept by the caller"
    );
    // Both images share the configuration.
    let collected = scratch.store.collect(&BTreeSet::new()).unwrap();
    assert_eq!((collected.blobs, collected.layers), (3, 0));
    assert!(scratch.store.has(packed.digest()));
    scratch.store.remove(packed.digest()).unwrap();
    assert_eq!(scratch.store.collect(&BTreeSet::new()).unwrap().layers, 2);
    scratch.assert_empty("collected");
}

#[test]
fn what_a_crash_or_a_hand_leaves_is_survived() {
    let scratch = scratch(Limits::default());
    let image = built(Packing::Gzip);
    scratch.store.load_archive(&archive(&image)[..]).unwrap();
    let root = scratch.path("");
    assert_eq!(ImageStore::open(&root).unwrap_err().class(), ErrorClass::Busy);
    let layer = scratch.entries("layers")[0].clone();
    let blob = scratch.entries("blobs/sha256");
    let common::Scratch { store, directory } = scratch;
    drop(store);
    let open = || ImageStore::open_with(&root, Limits::default(), amd64()).unwrap();

    // Killed while a blob came, while a layer was unpacked, while one was removed.
    std::fs::write(root.join("tmp/blob-0"), "part").unwrap();
    std::fs::create_dir_all(root.join("tmp/layer-1/fs/deep")).unwrap();
    let store = open();
    assert!(root.join("tmp").read_dir().unwrap().next().is_none() && store.has(image.digest()));
    drop(store);

    // A layer without its note, or without its tree, does not count and is made again.
    for part in ["layer.json", "fs"] {
        let path = root.join("layers").join(&layer).join(part);
        if part == "fs" {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
        let store = open();
        assert!(!store.has(image.digest()) && store.list().unwrap().is_empty());
        assert_eq!(store.prepare(image.digest()).unwrap_err().class(), ErrorClass::Absent);
        store.finish_fetch(image.digest(), &[]).unwrap();
        assert!(store.has(image.digest()));
    }

    // Each missing blob makes the image absent, and is named.
    for name in &blob {
        let (path, aside) = (root.join("blobs/sha256").join(name), root.join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let store = open();
        assert!(!store.has(image.digest()), "{name}");
        assert!(store.finish_fetch(image.digest(), &[]).unwrap_err().to_string().contains(name));
        std::fs::rename(&aside, &path).unwrap();
        assert!(store.has(image.digest()));
    }

    // A blob damaged on disk is found out when its layer is made again, and removed so that it is fetched again.
    let layer_blob = root.join("blobs/sha256").join(image.blob_digests()[2].hex());
    let mut bytes = std::fs::read(&layer_blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&layer_blob, bytes).unwrap();
    std::fs::remove_dir_all(root.join("layers")).unwrap();
    let store = open();
    let error = store.finish_fetch(image.digest(), &[]).unwrap_err();
    assert!(matches!(error, ImageError::MissingBlob { .. }), "{error}");
    assert!(!layer_blob.exists());

    // A damaged record is none; loading writes it again.
    let record = root.join("images").join(format!("{}.json", image.digest().hex()));
    std::fs::write(&record, "{").unwrap();
    assert!(store.list().unwrap().is_empty());
    store.load_archive(&archive(&image)[..]).unwrap();
    assert!(store.has(image.digest()));
    drop(directory);
}

#[test]
fn an_image_of_many_platforms_gives_the_right_one() {
    let arm = Platform { os: "linux".into(), architecture: "arm64".into(), variant: None };
    let for_arm =
        ImageBuilder::new().platform(arm.clone()).layer(base()).name(reference("arm:1")).build().unwrap();
    let scratch = scratch(Limits::default());
    // Alone it is loaded (other nodes may run it) but not prepared here.
    let record = &scratch.store.load_archive(&archive(&for_arm)[..]).unwrap()[0];
    assert_eq!(record.platform, arm);
    let error = scratch.store.prepare(record.manifest).unwrap_err().to_string();
    assert!(error.contains("not for linux/amd64") && error.contains("linux/arm64"), "{error}");
    // With another one beside it the right one is chosen.
    let ours = built(Packing::Plain);
    scratch.store.load_archive(&archive(&ours)[..]).unwrap();
    let mut both = Vec::new();
    scratch.store.export_archive(&[for_arm.digest(), ours.digest()], &mut both).unwrap();
    let fresh = common::scratch(Limits::default());
    let records = fresh.store.load_archive(&both[..]).unwrap();
    assert_eq!(records.iter().map(|record| record.manifest).collect::<Vec<_>>(), [ours.digest()]);
}

#[test]
fn other_archives_are_told_what_they_are() {
    let scratch = scratch(Limits::default());
    let load = |bytes: &[u8]| scratch.store.load_archive(bytes).unwrap_err().to_string();
    let layer = |name: &str, text: &str| LayerBuilder::new().file(name, 0o644, text).to_tar().unwrap();
    assert!(
        load(&base().to_tar().unwrap()).contains("archive is not an image: it has neither manifest.json")
    );
    assert!(load(&layer("manifest.json", "[]")).contains("names no image"));
    assert!(
        load(&layer("manifest.json", r#"[{"Config":"../../etc/passwd","Layers":[]}]"#))
            .contains("not in the archive")
    );
    assert!(load(&layer("manifest.json", r#"[{"Config":"a","Config":"b"}]"#)).contains("appears twice"));
    assert!(load(&layer("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)).contains("no index.json"));
    assert!(load(&layer("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#)).contains("not supported"));
    assert!(load(b"\xfd7zXZ\0 and so on").contains("xz"));
    let twice = LayerBuilder::new()
        .file("manifest.json", 0o644, "[]")
        .file("manifest.json", 0o644, "[]")
        .to_tar()
        .unwrap();
    assert!(load(&twice).contains("in it twice"));
    // A blob under another blob's name.
    let image = built(Packing::Plain);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        image.digest(),
        image.blob(image.digest()).unwrap().len()
    );
    let mut layout = LayerBuilder::new().file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#).file(
        "index.json",
        0o644,
        index,
    );
    for (number, digest) in image.blob_digests().into_iter().enumerate() {
        assert!(
            load(&layout.to_tar().unwrap()).contains(&format!("{digest}")),
            "names the missing blob {number}"
        );
        let content = if number == 3 { b"something else" } else { image.blob(digest).unwrap() };
        layout = layout.file(&format!("blobs/sha256/{}", digest.hex()), 0o644, content);
    }
    let error = load(&layout.to_tar().unwrap());
    assert!(
        error.contains("has the digest") && error.contains(&image.blob_digests()[3].to_string()),
        "{error}"
    );
    scratch.assert_empty("not images");
}

/// Mounts while it lives.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "unmounting {}", self.0.display());
    }
}

/// overlayfs itself is the judge of whiteouts and opaque directories.
#[test]
fn overlayfs_reads_the_layers() {
    let image = ImageBuilder::new()
        .platform(amd64())
        .layer(
            LayerBuilder::new()
                .file("gone", 0o644, "")
                .file("kept", 0o644, "low")
                .file("dir/low", 0o644, "")
                .file("sub/gone", 0o644, "")
                .file("sub/stays", 0o644, ""),
        )
        .layer(
            LayerBuilder::new()
                .whiteout("gone")
                .opaque("dir")
                .file("dir/high", 0o644, "")
                .whiteout("sub/gone"),
        )
        .layer(LayerBuilder::new().file("kept", 0o644, "high"))
        .build()
        .unwrap();
    let scratch = scratch(Limits::default());
    scratch.store.load_archive(&archive(&image)[..]).unwrap();
    let lower_dirs = scratch.store.prepare(image.digest()).unwrap().lower_dirs;
    let lower: Vec<String> = lower_dirs.iter().map(|path| path.display().to_string()).collect();
    let target = scratch.directory.path().join("merged");
    std::fs::create_dir(&target).unwrap();
    let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    match rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str()) {
        Err(rustix::io::Errno::PERM) => {
            // Not a pass: CI runs this as root.
            println!("skipped: mounting overlayfs is not permitted here");
            return;
        }
        other => other.unwrap(),
    }
    let mounted = Mounted(target.clone());
    let seen: Vec<String> = listing(&target).into_keys().collect();
    assert_eq!(seen, ["dir", "dir/high", "kept", "sub", "sub/stays"]);
    assert_eq!(std::fs::read(target.join("kept")).unwrap(), b"high");
    drop(mounted);
}

/// Flipping any byte of an archive never panics, never leaves the store dirty, and never yields another image under the same digest.
#[test]
fn flipped_bytes() {
    let image = built(Packing::Gzip);
    let good = archive(&image);
    for at in (0..good.len()).step_by(61) {
        let scratch = scratch(Limits::default());
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        if let Ok(records) = scratch.store.load_archive(&bytes[..]) {
            assert!(records.iter().all(|record| record.manifest == image.digest()), "byte {at}");
        }
        assert!(scratch.entries("tmp").is_empty(), "byte {at}");
    }
}
