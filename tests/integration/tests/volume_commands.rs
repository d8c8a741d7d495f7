//! The commands on volumes: from any manager, on all nodes; archives are whole or nothing, whoever is lost in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use coracle_integration::archive::{Entry, Tar};
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, Name, W1, W2};
use coracle_integration::{cli, harness};
use rustix::fs::XattrFlags;

/// More than all buffers between a node and an operator hold together.
const LARGE: usize = 48 << 20;
/// What is passed on before somebody is lost.
const SOME: usize = 2 << 20;

#[test]
fn volumes_are_made_moved_and_never_half() {
    harness::test("volume_commands", 3, 2, |lab| {
        made_and_listed(lab)?;
        moved(lab)?;
        hostile_archives(lab)?;
        used(lab)?;
        a_node_is_lost(lab)?;
        the_leader_is_lost(lab)
    });
}

/// What is in a volume, as the node's disk has it.
fn data(lab: &Lab, node: Name, volume: &str) -> Result<PathBuf> {
    Ok(lab.get(node)?.folders().data().join("volumes").join(volume).join("_data"))
}

fn made_and_listed(lab: &mut Lab) -> Result<()> {
    lab.until("all nodes are heard", |lab| Ok(!lab.cli(M2, "volume ls").ok_both()?.contains("warning")))?;
    lab.cli(M1, "volume create --node w1 --label team=web data").ok()?;
    lab.cli(M2, "volume create here").ok()?;
    lab.cli(M1, "volume create --node w1 --node w2 both").ok()?;
    let unnamed = lab.cli(M1, "volume create --node w2").ok()?;
    let all = lab.cli(M2, "volume ls --format '{{.Node}}/{{.Name}}'").ok()?;
    let mut expected =
        [format!("w2/{unnamed}"), "w1/both".into(), "w2/both".into(), "w1/data".into(), "m2/here".into()];
    expected.sort_by_key(|line| line.split_once('/').map(|(node, name)| (name.to_owned(), node.to_owned())));
    ensure!(all.lines().eq(expected.iter()), "{all}\nbut not: {expected:?}");
    let labelled = lab.cli(M1, "volume ls -q --filter label=team=web --filter node=w1").ok()?;
    ensure!(labelled == "data", "{labelled}");
    lab.cli(M1, "volume rm both").refused(&["2 nodes: w1, w2", "--node", "--all-nodes"])?;
    lab.cli(M2, "volume rm --all-nodes both").ok()?;
    lab.cli(M1, "volume rm both").refused(&["no node has a volume \"both\""])?;
    lab.cli(W1, "volume ls").refused(&["not a manager"])?;
    let pruned = lab.cli(M1, "volume prune --force").ok()?;
    ensure!(pruned.contains(&unnamed) && !pruned.contains("data"), "{pruned}");
    Ok(())
}

/// Fills a volume with everything that an archive has to keep.
fn fill(data: &Path) -> Result<()> {
    fs::create_dir(data.join("folder"))?;
    fs::write(data.join("folder/file"), vec![7; 300_000])?;
    fs::set_permissions(data.join("folder/file"), fs::Permissions::from_mode(0o4751))?;
    fs::hard_link(data.join("folder/file"), data.join("again"))?;
    symlink("../../../../etc/passwd", data.join("folder/link"))?;
    fs::write(data.join("owned"), b"text")?;
    chown(data.join("owned"), Some(1234), Some(4321))?;
    rustix::fs::setxattr(data.join("owned"), "user.note", b"kept", XattrFlags::empty())?;
    let sparse = fs::File::create(data.join("sparse"))?;
    sparse.set_len(1 << 30)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o1770))?;
    chown(data, Some(1234), Some(0))?;
    Ok(())
}

/// Everything below a folder: kind and mode, owner, names of the same file, size, and what is in it.
fn content(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = waiting.pop() {
        let status = fs::symlink_metadata(&path)?;
        let mut note = [0; 64];
        let inside = if status.is_dir() {
            waiting
                .extend(fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?.iter().map(fs::DirEntry::path));
            String::new()
        } else if status.is_symlink() {
            fs::read_link(&path)?.display().to_string()
        } else if status.len() > 1 << 20 {
            ensure!(status.blocks() < 100, "{} has no hole", path.display());
            format!("{} bytes", status.len())
        } else {
            let note = rustix::fs::getxattr(&path, "user.note", &mut note).map_or(0, |length| length);
            format!("{} bytes, {:?}, note {note}", status.len(), fs::read(&path)?.first())
        };
        let names = if status.is_dir() { 0 } else { status.nlink() };
        let text = format!("{:o} {}:{} {names} {inside}", status.mode(), status.uid(), status.gid());
        found.insert(path.strip_prefix(root)?.to_owned(), text);
    }
    Ok(found)
}

fn moved(lab: &mut Lab) -> Result<()> {
    let before = data(lab, W1, "data")?;
    fill(&before)?;
    let file = lab.folder().join("data.tar");
    let leader = lab.leader()?;
    let follower = if leader == M1 { M2 } else { M1 };
    lab.cli(follower, &format!("volume backup data --node w1 -o {}", file.display())).ok()?;
    ensure!(fs::metadata(&file)?.len() < 10 << 20, "holes are not in the archive");
    // From one command to the other, as an operator would.
    let mut backup = start(lab, leader, "volume backup data", Stdio::null())?;
    let archive = backup.stdout.take().context("no output")?;
    let restore = start(lab, follower, "volume restore copy --node w2", archive.into())?;
    let output = restore.wait_with_output()?;
    ensure!(
        output.status.success() && backup.wait()?.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (expected, copy) = (content(&before)?, content(&data(lab, W2, "copy")?)?);
    ensure!(expected.len() == 7 && expected == copy, "{expected:#?}\nbut not: {copy:#?}");
    let line = format!("volume restore copy --node w2 -i {}", file.display());
    lab.cli(M1, &line).refused(&["there already", "--replace"])?;
    lab.cli(M1, &format!("{line} --replace --label from=w1")).ok()?;
    ensure!(content(&data(lab, W2, "copy")?)? == expected, "replaced by the same");
    let inspected =
        lab.cli(M2, "volume inspect copy --format '{{.Node.Hostname}} {{.Labels.from}} {{.Inodes}}'").ok()?;
    ensure!(inspected == "w2 w1 6", "{inspected}");
    Ok(())
}

fn start(lab: &Lab, at: Name, line: &str, input: Stdio) -> Result<Child> {
    let node = lab.get(at)?;
    let mut command = cli::command(node.host()?, lab.binary(), &node.folders().socket(), line)?;
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("start coracle {line}"))
}

fn hostile_archives(lab: &mut Lab) -> Result<()> {
    let file = lab.folder().join("hostile.tar");
    let outside = lab.get(W2)?.folders().data().join("escaped");
    let far = format!("{}{}", "../".repeat(20), outside.strip_prefix("/")?.display());
    let kinds: [(&str, &[(&str, Entry<'_>)]); 4] = [
        ("..", &[(&far, Entry::File(b"x"))]),
        (
            "a link and a file behind it",
            &[("out", Entry::SymbolicLink("/")), ("out/escaped", Entry::File(b"x"))],
        ),
        ("a hard link out", &[("out", Entry::HardLink("../../volume.json"))]),
        ("absolute", &[("/escaped-absolute", Entry::File(b"x"))]),
    ];
    for (what, entries) in kinds {
        let mut tar = Tar::new(Vec::new());
        for (path, entry) in entries {
            tar.add(path, 0o644, *entry)?;
        }
        fs::write(&file, tar.finish()?)?;
        let restored =
            lab.cli(M1, &format!("volume restore hostile --node w2 -i {}", file.display())).code()?;
        ensure!(!outside.exists() && !Path::new("/escaped").exists(), "{what}: written outside");
        ensure!(!Path::new("/escaped-absolute").exists(), "{what}: written outside");
        // Names that begin at the root begin at the volume's, as in images.
        if restored == 0 {
            ensure!(matches!(what, "absolute" | "a link and a file behind it"), "{what}: accepted");
            let inside = data(lab, W2, "hostile")?;
            ensure!(
                inside.join("escaped").exists() || inside.join("escaped-absolute").exists(),
                "{what}: lost"
            );
            lab.cli(M1, "volume rm --node w2 hostile").ok()?;
        }
        is_nowhere(lab, "hostile")?;
    }
    fs::write(&file, b"no archive at all")?;
    lab.cli(M1, &format!("volume restore hostile --node w2 -i {}", file.display()))
        .refused(&["w2", "hostile"])?;
    is_nowhere(lab, "hostile")
}

/// No node has a volume of this name, nor a part of one under it.
fn is_nowhere(lab: &Lab, volume: &str) -> Result<()> {
    for name in lab.names() {
        ensure!(!data(lab, name, volume)?.exists(), "a part of {volume} is on {name}");
    }
    let listed = lab.cli(M2, &format!("volume ls -q --filter name={volume}")).ok()?;
    ensure!(listed.is_empty(), "{listed} is listed");
    Ok(())
}

fn used(lab: &mut Lab) -> Result<()> {
    let place = "--constraint node.hostname==w1 --mount type=volume,source=data,target=/data";
    lab.cli(M1, &format!("service create --name app {place} responder:1 sleep")).ok()?;
    lab.until("the volume is in use", |lab| {
        Ok(lab.cli(M2, "volume ls --filter name=data --format '{{.InUse}}'").ok()? == "1 task")
    })?;
    lab.cli(M1, "volume rm --force data").refused(&["w1", "in use", "app.1"])?;
    ensure!(
        !lab.cli(M1, "volume prune --all --force --node w1").ok()?.contains("data"),
        "pruned while in use"
    );
    let file = lab.folder().join("data.tar");
    let line = format!("volume restore data --node w1 --replace -i {}", file.display());
    lab.cli(M1, &line).refused(&["in use", "app.1"])?;
    let user = lab.cli(M1, "volume inspect data --format '{{json .Tasks}}'").ok()?;
    ensure!(user.contains("\"app.1\""), "{user}");
    lab.cli(M1, "service rm app").ok()?;
    lab.until("the volume is free", |lab| {
        Ok(lab.cli(M2, "volume ls -q --filter name=data --filter dangling=true").ok()? == "data")
    })
}

/// An archive of one large file.
fn large() -> Result<Vec<u8>> {
    let mut tar = Tar::new(Vec::new());
    tar.add("large", 0o644, Entry::File(&vec![1; LARGE]))?;
    Ok(tar.finish()?)
}

fn failed(child: Child, what: &str) -> Result<()> {
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("error:"), "{what}: {}: {error}", output.status);
    Ok(())
}

fn a_node_is_lost(lab: &mut Lab) -> Result<()> {
    let archive = large()?;
    let file = lab.folder().join("large.tar");
    fs::write(&file, &archive)?;
    lab.cli(M1, &format!("volume restore large --node w1 -i {}", file.display())).ok()?;
    let mut backup = start(lab, M1, "volume backup large --node w1", Stdio::null())?;
    backup.stdout.as_mut().context("no output")?.read_exact(&mut vec![0; SOME])?;
    let mut restore = start(lab, M2, "volume restore half --node w1", Stdio::piped())?;
    restore.stdin.as_mut().context("no input")?.write_all(&archive[..LARGE / 2])?;
    lab.node(W1).kill_daemon()?;
    failed(backup, "the backup of a node that was killed")?;
    failed(restore, "the restoration on a node that was killed")?;
    lab.eventually("the node is lost", |view| view.is_down("w1"))?;
    let listed = lab.cli(M2, "volume ls").ok_both()?;
    ensure!(listed.contains("volumes of node w1 are not known: it is down"), "{listed}");
    lab.start_daemon(W1)?;
    lab.eventually("the node is back", |view| view.is_ready("w1"))?;
    lab.until("the node is heard", |lab| Ok(!lab.cli(M2, "volume ls").ok_both()?.contains("warning")))?;
    is_nowhere(lab, "half")?;
    nothing_unfinished(lab, W1)
}

/// What was begun for an archive that did not come whole is gone.
fn nothing_unfinished(lab: &Lab, node: Name) -> Result<()> {
    let folder = lab.get(node)?.folders().data().join("volumes");
    lab.until("nothing unfinished is left", |lab| {
        let known = lab.cli(M2, &format!("volume ls -q --filter node={node}")).ok()?;
        let known: Vec<&str> = known.lines().collect();
        let mut large = 0;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if !known.iter().any(|name| *name == entry.file_name()) {
                large += size(&entry.path())?;
            }
        }
        Ok(large < 1 << 20)
    })
}

fn size(path: &Path) -> Result<u64> {
    let status = fs::symlink_metadata(path)?;
    if !status.is_dir() {
        return Ok(status.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

fn the_leader_is_lost(lab: &mut Lab) -> Result<()> {
    let archive = large()?;
    let leader = lab.leader()?;
    let other = if leader == M1 { M2 } else { M1 };
    let mut restore = start(lab, other, "volume restore half --node w2", Stdio::piped())?;
    let mut input = restore.stdin.take().context("no input")?;
    input.write_all(&archive[..LARGE / 2])?;
    let mut backup = start(lab, other, "volume backup large --node w1", Stdio::null())?;
    backup.stdout.as_mut().context("no output")?.read_exact(&mut vec![0; SOME])?;
    lab.node(leader).kill_daemon()?;
    // The command has given up; what reads its input is gone.
    let _ = input.write_all(&archive[LARGE / 2..]);
    drop(input);
    failed(restore, "the restoration through a leader that was killed")?;
    failed(backup, "the backup through a leader that was killed")?;
    lab.start_daemon(leader)?;
    lab.eventually_within("whole again", FORM_DEADLINE, |view| view.ready() == 5 && view.voters() == 3)?;
    lab.until("all nodes are heard", |lab| Ok(!lab.cli(M2, "volume ls").ok_both()?.contains("warning")))?;
    is_nowhere(lab, "half")?;
    nothing_unfinished(lab, W2)?;
    let file = lab.folder().join("large.tar");
    lab.cli(M1, &format!("volume restore half --node w2 -i {}", file.display())).ok()?;
    ensure!(size(&data(lab, W2, "half")?)? == LARGE as u64, "the same archive is restored in the end");
    Ok(())
}
