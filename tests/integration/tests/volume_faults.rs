//! Volumes are saved and restored on full disks and over links that are cut: the error says what it is, nothing is half there, and
//! nothing is left.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use coracle_integration::archive::{Entry, Tar};
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, W1};
use coracle_integration::{cli, disk, harness};

/// More than all buffers between a node and an operator hold together.
const LARGE: usize = 48 << 20;
/// More than the image store and unpacking keep back, with room for two large volumes.
const DISK: u64 = 512 << 20;

#[test]
fn full_disks_and_cut_links_leave_whole_volumes_or_none() {
    harness::bare("volume_faults", 1, 1, |lab| {
        disk::limit(lab, W1, DISK)?;
        lab.form()?;
        heard(lab)?;
        let file = lab.folder().join("large.tar");
        fs::write(&file, archive(b'a')?)?;
        lab.cli(M1, &format!("volume restore old --node w1 -i {}", file.display())).ok()?;
        the_nodes_disk_is_full(lab)?;
        the_operators_disk_is_full(lab)?;
        the_link_is_cut(lab)
    });
}

fn heard(lab: &Lab) -> Result<()> {
    lab.until("all nodes are heard", |lab| Ok(!lab.cli(M1, "volume ls").ok_both()?.contains("warning")))
}

/// An archive of one large file.
fn archive(content: u8) -> Result<Vec<u8>> {
    let mut tar = Tar::new(Vec::new());
    tar.add("large", 0o644, Entry::File(&vec![content; LARGE]))?;
    Ok(tar.finish()?)
}

fn start(lab: &Lab, line: &str, input: Stdio) -> Result<Child> {
    let node = lab.get(M1)?;
    let mut command = cli::command(node.host()?, lab.binary(), &node.folders().socket(), line)?;
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("start coracle {line}"))
}

/// The command failed, and its error has all of these words.
fn failed(child: Child, what: &str, words: &[&str]) -> Result<()> {
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    // Not a panic (101), nor the deadline (124, 137).
    ensure!(matches!(output.status.code(), Some(1..=9)), "{what}: {}: {error}", output.status);
    for word in words {
        ensure!(error.contains(word), "{what}: the error does not say {word:?}:\n{error}");
    }
    Ok(())
}

/// The one volume is what it was, and nothing else is there: no other volume, no part of one, nothing mounted.
fn only_the_old_one(lab: &Lab) -> Result<()> {
    heard(lab)?;
    let listed = lab.cli(M1, "volume ls -q").ok()?;
    ensure!(listed == "old", "{listed}");
    let host = lab.get(W1)?.host()?;
    let volumes = lab.get(W1)?.folders().data().join("volumes").display().to_string();
    lab.until("nothing unfinished is left", |_| {
        let found =
            host.run(["find", &volumes, "-mindepth", "1", "-not", "-path", &format!("{volumes}/old*")])?;
        Ok(found.trim() == format!("{volumes}/.tmp"))
    })?;
    let first = host.run(["head", "-c", "1", &format!("{volumes}/old/_data/large")])?;
    let size = host.run(["stat", "--format", "%s", &format!("{volumes}/old/_data/large")])?;
    ensure!(first == "a" && size.trim() == LARGE.to_string(), "the old one is {first:?}, {size} bytes");
    let mounts = host.run(["cat", "/proc/self/mountinfo"])?;
    let left = mounts.lines().find(|line| line.contains("/volumes"));
    ensure!(left.is_none(), "a mount is left: {left:?}");
    Ok(())
}

fn the_nodes_disk_is_full(lab: &mut Lab) -> Result<()> {
    let other = archive(b'b')?;
    let file = lab.folder().join("other.tar");
    fs::write(&file, &other)?;
    // Too little room from the beginning, for a new one and for one that is replaced.
    disk::fill(lab.get(W1)?, 16 << 20)?;
    for line in ["new", "old --replace"] {
        lab.cli(M1, &format!("volume restore {line} --node w1 -i {}", file.display())).refused(&[
            "w1",
            "was not restored",
            "free some space",
            "No space left on device",
        ])?;
        only_the_old_one(lab)?;
    }
    disk::make_room(lab.get(W1)?)?;
    // It gets full in the middle.
    for line in ["new", "old --replace"] {
        let mut restore = start(lab, &format!("volume restore {line} --node w1"), Stdio::piped())?;
        let mut input = restore.stdin.take().context("no input")?;
        input.write_all(&other[..LARGE / 2])?;
        disk::fill(lab.get(W1)?, 0)?;
        // The command may have given up by now.
        let _ = input.write_all(&other[LARGE / 2..]);
        drop(input);
        failed(restore, "a restoration on a disk that got full", &["w1", "No space left on device"])?;
        disk::make_room(lab.get(W1)?)?;
        only_the_old_one(lab)?;
    }
    // Reading needs no room.
    disk::fill(lab.get(W1)?, 0)?;
    let saved = lab.folder().join("saved.tar");
    lab.cli(M1, &format!("volume backup old -o {}", saved.display())).ok()?;
    ensure!(fs::metadata(&saved)?.len() > LARGE as u64, "it is whole");
    disk::make_room(lab.get(W1)?)?;
    // And with room again all is as ever.
    lab.cli(M1, &format!("volume restore new --node w1 -i {}", file.display())).ok()?;
    lab.cli(M1, "volume rm new").ok()?;
    only_the_old_one(lab)
}

/// The archive is to go to a file system that is too small for it.
fn the_operators_disk_is_full(lab: &Lab) -> Result<()> {
    let folder = lab.folder().join("small");
    fs::create_dir(&folder)?;
    let small = folder.display().to_string();
    let host = lab.get(M1)?.host()?;
    host.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", &small])?;
    lab.cli(M1, &format!("volume backup old -o {small}/saved.tar"))
        .refused(&["saved.tar", "No space left on device"])?;
    let left = host.run(["ls", "-A", &small])?;
    ensure!(left.trim().is_empty(), "left of the archive: {left}");
    // An earlier archive of this name is not touched by one that fails.
    host.run(["sh", "-c", &format!("echo earlier >{small}/saved.tar")])?;
    lab.cli(M1, &format!("volume backup old -o {small}/saved.tar")).refused(&["No space left on device"])?;
    let kept = host.run(["cat", &format!("{small}/saved.tar")])?;
    ensure!(kept.trim() == "earlier", "{kept:.20}");
    host.run(["umount", &small])?;
    only_the_old_one(lab)
}

fn the_link_is_cut(lab: &mut Lab) -> Result<()> {
    let other = archive(b'b')?;
    let saved: PathBuf = lab.folder().join("cut.tar");
    let mut children = Vec::new();
    for line in ["new", "old --replace"] {
        let mut restore = start(lab, &format!("volume restore {line} --node w1"), Stdio::piped())?;
        restore.stdin.as_mut().context("no input")?.write_all(&other[..LARGE / 2])?;
        children.push(restore);
    }
    let mut backup = start(lab, "volume backup old", Stdio::null())?;
    backup.stdout.as_mut().context("no output")?.read_exact(&mut vec![0; 2 << 20])?;
    children.push(backup);
    lab.isolate(W1)?;
    // Somebody who begins now is told at once, or when the node is lost.
    lab.cli(M1, &format!("volume backup old --node w1 -o {}", saved.display())).refused(&["w1"])?;
    ensure!(!saved.exists(), "half an archive is left");
    for child in children {
        failed(child, "what was under way when the link was cut", &["w1", "lost"])?;
    }
    lab.heal(W1)?;
    lab.eventually("the node is back", |view| view.is_ready("w1"))?;
    only_the_old_one(lab)?;
    let file = lab.folder().join("other.tar");
    lab.cli(M1, &format!("volume restore old --replace --node w1 -i {}", file.display())).ok()?;
    Ok(())
}
