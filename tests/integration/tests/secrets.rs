//! Secrets and configs: containers see them as files in memory, nobody else sees them, and newer versions roll out.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name, W1, W2};
use coracle_integration::process::Process;

/// Parts of the canaries, which are put together when the test runs: nothing else has them in memory or on a disk.
const CANARY: [&str; 2] = ["canary-7d1f", "of-the-first-version"];

#[test]
fn secrets_reach_containers_and_nobody_else() {
    harness::test("secrets", 1, 2, |lab| {
        let canary = CANARY.join("-");
        let source = lab.folder().join("key.txt");
        fs::write(&source, &canary)?;
        lab.cli(M1, &format!("secret create --label team=web key {}", source.display())).ok()?;
        lab.cli(M1, &format!("config create site.conf {}", lab_file(lab, "site", "colour = green")?)).ok()?;
        // What was read from is not what is searched later.
        fs::remove_file(&source)?;
        refusals(lab, &canary)?;
        create(lab, "web", "--user guest --secret source=key,uid=1000,mode=0400 --config site.conf")?;
        create(lab, "old", "--secret key@1")?;
        with_placeholders(lab)?;
        lab.eventually("all run", |view| {
            view.settled("web", 1) && view.settled("old", 1) && view.settled("variable", 1)
        })?;
        what_the_container_sees(lab, &canary)?;
        variables_and_placeholders(lab, &canary)?;
        who_has_it(lab, &canary)?;
        a_restart_of_the_daemon(lab, &canary)?;
        a_newer_version(lab, &canary)?;
        the_end(lab)
    });
}

fn lab_file(lab: &Lab, name: &str, text: &str) -> anyhow::Result<String> {
    let path = lab.folder().join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn create(lab: &Lab, name: &str, flags: &str) -> anyhow::Result<()> {
    let place = "--constraint node.hostname==w1 --restart-delay 100ms";
    lab.cli(M1, &format!("service create --detach --name {name} {place} {flags} responder:1 sleep")).ok()?;
    Ok(())
}

fn refusals(lab: &Lab, canary: &str) -> anyhow::Result<()> {
    let big = lab_file(lab, "big", &"x".repeat(512_000))?;
    lab.cli(M1, &format!("secret create big {big}")).refused(&["too large", "512000"])?;
    let empty = lab_file(lab, "empty", "")?;
    lab.cli(M1, &format!("secret create empty {empty}")).refused(&["empty"])?;
    lab.cli(M1, &format!("secret create key {big}")).refused(&[])?;
    lab.cli(M1, &format!("config create -bad- {big}")).refused(&[])?;
    lab.cli(M1, "service create --detach --name no --secret nokey responder:1")
        .refused(&["no secret \"nokey\""])?;
    lab.cli(M1, "service create --detach --name no --secret key@7 responder:1")
        .refused(&["no such version"])?;
    let shown = lab.cli(M1, "secret inspect key").ok()? + &lab.cli(M1, "secret inspect --pretty key").ok()?;
    ensure!(shown.contains("team") && !shown.contains(canary), "{shown}");
    ensure!(lab.cli(M1, "config inspect --pretty site.conf").ok()?.contains("colour = green"));
    Ok(())
}

/// A secret in the environment, and in a config that asks for it.
fn with_placeholders(lab: &Lab) -> anyhow::Result<()> {
    let text = "on {{.Node.Hostname}} for {{.Service.Name}}: {{env `COLOUR`}} {{secret `key`}}";
    let file = lab_file(lab, "template", text)?;
    let wrong = lab_file(lab, "wrong", "a\n{{.Task.Nope}}")?;
    lab.cli(M1, &format!("config create --template-driver golang bad {wrong}"))
        .refused(&["config \"bad\": at line 2, character 1: {{.task.nope}} is not known"])?;
    lab.cli(M1, &format!("config create --template-driver python bad {file}")).refused(&["golang"])?;
    lab.cli(M1, &format!("config create --template-driver golang filled {file}")).ok()?;
    lab.cli(M1, "service create --detach --name no --config filled --env COLOUR=red responder:1")
        .refused(&["{{secret \"key\"}}: the service is not given it; add --secret key"])?;
    lab.cli(M1, "service create --detach --name no --env A=1 --secret key,env=A responder:1")
        .refused(&["secret: invalid value \"A\": --env gives this variable, too"])?;
    let flags = "--secret source=key@1,env=TOKEN --config source=filled,target=/etc/filled --env COLOUR=red";
    create(lab, "variable", flags)
}

fn variables_and_placeholders(lab: &Lab, canary: &str) -> anyhow::Result<()> {
    let (root, process) = container(lab, "variable")?;
    let environ = fs::read(format!("/proc/{}/environ", process.pid))?;
    ensure!(contains(&environ, &format!("TOKEN={canary}\0")), "{}", String::from_utf8_lossy(&environ));
    let filled = fs::read_to_string(root.join("etc/filled"))?;
    ensure!(filled == format!("on w1 for variable: red {canary}"), "{filled}");
    ensure!(rustix::fs::statfs(root.join("etc/filled"))?.f_type == 0x0102_1994, "it is not in memory");
    let task = lab.view()?.running_ids("variable").into_iter().next().context("no task")?;
    for line in [
        format!("task inspect {task}"),
        "service inspect variable".to_owned(),
        "config inspect filled".to_owned(),
    ] {
        let told = lab.cli(M1, &line).ok_both()?;
        ensure!(!told.contains(canary) && told.len() > 100, "{line}: {told}");
    }
    Ok(())
}

/// The root of the file system of a service's one container, and its process.
fn container(lab: &Lab, service: &str) -> anyhow::Result<(PathBuf, Process)> {
    let view = lab.view()?;
    let task = view.tasks_of(service).find(|task| task.is_running()).context("no task runs")?;
    let process = lab.get(W1)?.process(task.pid)?.context("its process is not there")?;
    Ok((PathBuf::from(format!("/proc/{}/root", process.pid)), process))
}

fn what_the_container_sees(lab: &Lab, canary: &str) -> anyhow::Result<()> {
    let (root, process) = container(lab, "web")?;
    let key = root.join("run/secrets/key");
    ensure!(fs::read_to_string(&key)? == canary);
    let found = fs::metadata(&key)?;
    ensure!((found.uid(), found.gid(), found.mode() & 0o7777) == (1000, 0, 0o400), "{found:?}");
    // statfs(2), TMPFS_MAGIC.
    ensure!(rustix::fs::statfs(&key)?.f_type == 0x0102_1994, "it is not in memory");
    let refused = fs::write(&key, "x").expect_err("it is mounted read-only");
    ensure!(refused.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error()), "{refused}");
    ensure!(fs::read_to_string(root.join("site.conf"))? == "colour = green");
    for what in ["environ", "cmdline"] {
        let bytes = fs::read(format!("/proc/{}/{what}", process.pid))?;
        ensure!(!contains(&bytes, canary), "{what} has it");
    }
    Ok(())
}

/// On disks nobody has it in clear; in memory the manager and the node of the task have it, the other node never does.
fn who_has_it(lab: &Lab, canary: &str) -> anyhow::Result<()> {
    let planted = lab.folder().join("planted");
    fs::create_dir_all(&planted)?;
    fs::write(planted.join("file"), format!("before {canary} after"))?;
    ensure!(on_disk(&planted, canary)?.is_some(), "the search finds nothing at all");
    fs::remove_dir_all(&planted)?;
    for name in [M1, W1, W2] {
        let data = lab.get(name)?.folders().data();
        let found = on_disk(&data, canary)?;
        ensure!(found.is_none(), "{found:?} has it in clear");
    }
    ensure!(in_memory(lab, M1, canary)?, "the search of a memory finds nothing at all");
    ensure!(!in_memory(lab, W2, canary)?, "a node without a task for it has it");
    Ok(())
}

fn contains(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

fn on_disk(folder: &Path, canary: &str) -> anyhow::Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(None) };
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        // A file may go while it is looked at.
        if kind.is_file() && fs::read(&path).is_ok_and(|bytes| contains(&bytes, canary)) {
            return Ok(Some(path));
        }
        if kind.is_dir()
            && let Some(found) = on_disk(&path, canary)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether what a node's daemon can write of its memory has it (proc_pid_mem(5)).
fn in_memory(lab: &Lab, name: Name, canary: &str) -> anyhow::Result<bool> {
    let daemon = lab.get(name)?.daemon().context("no daemon")?;
    let mut memory = fs::File::open(format!("/proc/{}/mem", daemon.pid))?;
    for line in fs::read_to_string(format!("/proc/{}/maps", daemon.pid))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        if !rights.starts_with("rw") || to - from > 1 << 30 {
            continue;
        }
        memory.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        // What is unmapped meanwhile cannot be read.
        let _ = memory.by_ref().take(to - from).read_to_end(&mut bytes);
        if contains(&bytes, canary) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn a_restart_of_the_daemon(lab: &mut Lab, canary: &str) -> anyhow::Result<()> {
    let (root, process) = container(lab, "web")?;
    let variable = container(lab, "variable")?.1;
    lab.node(W1).kill_daemon()?;
    lab.start_daemon(W1)?;
    lab.eventually("it is back", |view| view.settled("web", 1))?;
    ensure!(container(lab, "web")?.1 == process, "it was started again");
    ensure!(fs::read_to_string(root.join("run/secrets/key"))? == canary);
    lab.eventually("that with a variable, too", |view| view.settled("variable", 1))?;
    ensure!(container(lab, "variable")?.1 == variable, "it was started again");
    // The next container is made from what managers send the new daemon.
    lab.until("the daemon is sent it again", |lab| in_memory(lab, W1, canary))?;
    variable.signal(rustix::process::Signal::KILL)?;
    lab.until("it is started again with the variable", |lab| {
        let Ok((_, process)) = container(lab, "variable") else { return Ok(false) };
        let environ = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        Ok(process != variable && contains(&environ, canary))
    })
}

fn a_newer_version(lab: &Lab, canary: &str) -> anyhow::Result<()> {
    let pinned = container(lab, "old")?.1;
    let before = container(lab, "web")?.1;
    lab.cli(M1, &format!("secret update key {}", lab_file(lab, "second", "the second")?)).ok()?;
    lab.until("the service has it", |lab| {
        let Ok((root, process)) = container(lab, "web") else { return Ok(false) };
        Ok(process != before
            && fs::read_to_string(root.join("run/secrets/key")).is_ok_and(|text| text == "the second"))
    })?;
    let (root, process) = container(lab, "old")?;
    ensure!(process == pinned, "what is pinned was replaced");
    ensure!(fs::read_to_string(root.join("run/secrets/key"))? == canary);
    Ok(())
}

fn the_end(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "secret rm key").refused(&["old, variable, web"])?;
    lab.cli(M1, "service rm web old variable").ok()?;
    lab.cli(M1, "secret rm key").ok()?;
    lab.cli(M1, "config rm site.conf filled").ok()?;
    lab.eventually("nothing runs", |view| view.tasks.is_empty())?;
    let files = lab.get(W1)?.folders().run().join("files");
    lab.until("nothing is left on the node", |_| {
        Ok(fs::read_dir(&files).is_ok_and(|mut left| left.next().is_none()))
    })?;
    ensure!(lab.cli(M1, "secret ls --quiet").ok()?.is_empty());
    Ok(())
}
