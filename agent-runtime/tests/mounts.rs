//! Parts of folders and of images in a container: what is mounted, and what no link leads to. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::{BindOptions, ContainerSpec, Mount};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::dead::Dead;
use support::{Lab, unique};

fn part(source: &Path, subpath: &str) -> Mount {
    Mount::Bind {
        source: source.to_owned(),
        target: "/part".into(),
        read_only: false,
        recursive: false,
        options: BindOptions { subpath: subpath.into(), ..BindOptions::default() },
    }
}

fn refusal(lab: &Lab, spec: &ContainerSpec) -> String {
    let error = lab.runtime().run(&unique("refused"), spec).unwrap_err();
    assert!(error.is_rejection(), "{error:?}");
    error.to_string()
}

#[test]
fn a_source_on_a_file_system_that_does_not_answer_is_told_and_nothing_is_left() {
    let Some(mut lab) = Lab::new() else { return };
    let Some(dead) = Dead::mount(lab.host("dead")) else { return };
    lab.close();
    lab.config.setup_timeout = Duration::from_secs(1);
    lab.reopen();
    let mut spec = lab.shell("true");
    spec.mounts = vec![part(&dead.place.join("data"), "")];
    let error = lab.runtime().create(&unique("late"), &spec).unwrap_err().to_string();
    let told = format!(
        "it did not finish setting up within 1s: see whether the file systems answer on which the sources of its mounts are: {}/data",
        dead.place.display(),
    );
    assert!(error.ends_with(&told), "{error}");
    assert!(lab.runtime().list().is_empty());
}

#[test]
fn a_part_of_a_folder_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let (volume, outside) = (lab.host("volume"), lab.host("outside"));
    fs::create_dir_all(volume.join("deep/deeper")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(volume.join("deep/deeper/file"), "content").unwrap();
    symlink("deep", volume.join("inside")).unwrap();
    symlink("/deep", volume.join("rooted")).unwrap();
    symlink("../outside", volume.join("climbing")).unwrap();
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink("/proc/self/root", volume.join("magic")).unwrap();
    symlink("loop", volume.join("loop")).unwrap();

    let shown = |subpath: &str| {
        let mut spec = lab.shell("cat /part/deeper/file; echo new > /part/new");
        spec.mounts = vec![part(&volume, subpath)];
        lab.stdout(&spec)
    };
    for subpath in ["deep", "./deep/", "inside", "rooted"] {
        assert_eq!(shown(subpath), "content", "{subpath}");
        assert_eq!(fs::read_to_string(volume.join("deep/new")).unwrap(), "new\n", "{subpath}");
        fs::remove_file(volume.join("deep/new")).unwrap();
    }
    let mut spec = lab.shell("cat /part");
    spec.mounts = vec![part(&volume, "deep/deeper/file")];
    assert_eq!(lab.stdout(&spec), "content", "a file is mounted as one");

    for subpath in
        ["missing", "climbing", "climbing/secret", "absolute", "magic", "magic/etc", "loop", "../outside"]
    {
        spec.mounts = vec![part(&volume, subpath)];
        let reason = refusal(&lab, &spec);
        assert!(
            reason.contains(&format!("subpath {subpath:?} does not exist in what is mounted")),
            "{reason}"
        );
    }
    spec.mounts = vec![part(&volume, "/deep")];
    assert!(refusal(&lab, &spec).contains("below the source"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

fn layer(lab: &Lab, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = lab.host(name);
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    }
    root
}

#[test]
fn layers_of_another_image() {
    let Some(lab) = Lab::new() else { return };
    let below = layer(&lab, "below", &[("data/one", "old"), ("data/two", "two")]);
    let above = layer(&lab, "above", &[("data/one", "new")]);
    symlink("/data", above.join("link")).unwrap();
    symlink("../../..", above.join("up")).unwrap();
    let mounted = |lower: &[&PathBuf], subpath: &str| Mount::Layers {
        lower: lower.iter().map(|&path| path.clone()).collect(),
        target: "/image".into(),
        subpath: subpath.into(),
    };
    let script = "cat /image/data/one /image/data/two; touch /image/x 2>&1 | grep -o Read-only; grep ' /image ' /proc/mounts | grep -o 'ro,nosuid,nodev'";
    let mut spec = lab.shell(script);
    spec.mounts = vec![mounted(&[&above, &below], "")];
    assert_eq!(lab.stdout(&spec), "newtwoRead-only\nro,nosuid,nodev\n");
    // A single layer, twice in one container, and parts of it.
    let mut spec = lab.shell("cat /image/one /other/one; ls /image");
    let other = match mounted(&[&below], "data") {
        Mount::Layers { lower, subpath, .. } => Mount::Layers { lower, target: "/other".into(), subpath },
        other => other,
    };
    spec.mounts = vec![mounted(&[&above], "link"), other];
    assert_eq!(lab.stdout(&spec), "newoldone\n");
    spec.mounts = vec![mounted(&[&above], "up/etc")];
    assert!(refusal(&lab, &spec).contains("does not exist in what is mounted"));
    spec.mounts = vec![mounted(&[], "")];
    assert!(refusal(&lab, &spec).contains("layers are needed"));
    assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "nothing was made in the layer");
}
