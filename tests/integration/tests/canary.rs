//! Secrets stay where they belong: a cluster that logs everything it can is taken through its life, and afterwards everything that
//! it leaves to be read is searched for them. What may hold one is listed in [`places::Place`], with the reason.

#[path = "canary/places.rs"]
mod places;
#[path = "canary/secrets.rs"]
mod secrets;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, W1};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use secrets::{Secret, Secrets};

const NAME: &str = "secrets_stay_where_they_belong";
/// Everything, of every library; the variable is the lab's own.
const FILTER: (&str, &str) = ("CORACLE_LAB_LOG", "trace,mio=info,polling=info");
/// The value of a service's environment.
const ENVIRONMENT: &str = "canary-of-the-environment-7f3a";
/// What a secret contains that services have as a variable, as a file and in a config; what it is read from is not searched.
const SECRET: &str = "canary-of-a-secret-51c9";

#[test]
fn secrets_stay_where_they_belong() {
    if std::env::var(FILTER.0).is_ok_and(|filter| filter.starts_with("trace")) {
        return harness::bare("canary", 1, 1, life);
    }
    // The lab's daemons take their filter from the environment, which a thread of a program cannot change safely.
    let program = std::env::current_exe().expect("this program has a path");
    let mut again = Command::new(program);
    again.args(["--exact", NAME, "--nocapture", "--test-threads=1"]).env(FILTER.0, FILTER.1);
    let status = again.status().expect("this program starts once more");
    assert!(status.success(), "see above");
}

fn life(lab: &mut Lab) -> Result<()> {
    let mut secrets = Secrets::default();
    let mut said = Vec::new();
    form(lab, &mut secrets)?;
    work(lab, &mut said)?;
    secrets.add(Secret::of_environment("environment of a service", ENVIRONMENT));
    secrets.add(Secret::of_environment("secret in the environment", SECRET));
    secrets.add_keys();
    for name in [M1, W1] {
        secrets.add_data_key(&lab.get(name)?.folders().data())?;
    }
    secrets.search_works()?;
    let mut found = Vec::new();
    for (command, output) in &said {
        found.extend(secrets.found_in(&places::Place::Output, command, output.as_bytes()));
    }
    found.extend(places::search(lab, &secrets)?);
    anyhow::ensure!(found.is_empty(), "secrets where they do not belong:\n{}", found.join("\n"));
    secrets.all_were_at_home()?;
    for name in [M1, W1] {
        let log = lab.get(name)?.log();
        anyhow::ensure!(log.contains("TRACE"), "{name} logs everything: {} bytes", log.len());
    }
    no_core(lab)?;
    found.extend(places::search(lab, &secrets)?);
    anyhow::ensure!(found.is_empty(), "secrets after the core was to be dumped:\n{}", found.join("\n"));
    Ok(())
}

/// Joins with tokens of which every one is noted, also those that were rotated.
fn form(lab: &Lab, secrets: &mut Secrets) -> Result<()> {
    lab.cli(M1, &format!("swarm init --advertise-addr {}", M1.address())).ok()?;
    let remote = format!("{}:2377", M1.address());
    let mut token = |line: &str| -> Result<String> {
        let token = lab.cli(M1, &format!("swarm join-token -q {line}")).ok()?;
        secrets.add(Secret::of_token(line, &token)?);
        Ok(token)
    };
    let (old, _manager) = (token("worker")?, token("manager")?);
    let (new, _manager) = (token("--rotate worker")?, token("--rotate manager")?);
    lab.cli(W1, &format!("swarm join --token {old} {remote}")).refused(&["not valid"])?;
    lab.cli(W1, &format!("swarm join --token {new} {remote}")).ok()?;
    // A token for another cluster, one that is cut off: the errors must not repeat them.
    lab.cli(W1, &format!("swarm join --token {new} {remote}")).refused(&["already"])?;
    lab.cli(M1, &format!("swarm join --token {} {remote}", &new[..new.len() - 1])).refused(&["token"])?;
    lab.eventually_within("both are ready", FORM_DEADLINE, |view| view.ready() == 2)?;
    Ok(())
}

/// Calls that succeed and calls that fail, with the value in the environment of services.
fn work(lab: &Lab, said: &mut Vec<(String, String)>) -> Result<()> {
    lab.load_responder(M1)?;
    for (name, text) in
        [("secret", SECRET), ("config", "colour = {{secret `key`}}"), ("bad", "{{canary-of-a-secret-51c9}}")]
    {
        std::fs::write(lab.folder().join(name), text)?;
    }
    let file = |name: &str| lab.folder().join(name).display().to_string();
    lab.cli(M1, &format!("secret create key {}", file("secret"))).ok()?;
    lab.cli(M1, &format!("config create --template-driver golang conf {}", file("config"))).ok()?;
    let given = "--secret key --secret source=key,env=KEY --config conf";
    let create = format!(
        "service create --name app --replicas 2 --env PASSWORD={ENVIRONMENT} {given} responder:1 sleep"
    );
    lab.cli(M1, &create).ok()?;
    lab.eventually("it runs", |view| view.running("app") == 2)?;
    lab.cli(M1, "service update --env-add OTHER=1 app").code()?;
    lab.cli(M1, "service scale app=3").ok()?;
    lab.eventually("it runs", |view| view.running("app") == 3)?;
    // Lines that are refused, on the way in and by the managers; what they say is searched as well.
    for line in [
        format!("service create --name app --env PASSWORD={ENVIRONMENT} responder:1 sleep"),
        format!("service create --name b --env PASSWORD={ENVIRONMENT} nothing:9"),
        format!("service create --name c --env PASSWORD={ENVIRONMENT} --replicas many responder:1"),
        format!("service create --name d --env PASSWORD={ENVIRONMENT} --constraint nonsense responder:1"),
        format!("service create --name e --env 'PASSWORD={ENVIRONMENT}{{{{.Nope}}}}' responder:1"),
        format!("secret create --template-driver golang bad {}", file("bad")),
    ] {
        said.push((line.clone(), lab.cli(M1, &line).refused(&[])?));
    }
    let task = lab.view()?.running_ids("app").into_iter().next().context("no task")?;
    let task = format!("task inspect {task}");
    for line in [&task, "service inspect app", "service inspect --pretty app"] {
        // What a service's own variables are is theirs to be told.
        let told = lab.cli(M1, line).ok_both()?.replace(ENVIRONMENT, "");
        said.push((line.to_owned(), told));
    }
    for line in [
        "secret inspect key",
        "config inspect conf",
        "service ls",
        "service ps app",
        "node ls",
        "system info",
        "image ls",
    ] {
        said.push((line.to_owned(), lab.cli(M1, line).ok_both()?));
    }
    Ok(())
}

/// A daemon that aborts leaves no core, even when its limit would allow one.
fn no_core(lab: &mut Lab) -> Result<()> {
    let seen = cores_can_be_seen(lab)?;
    for name in [W1, M1] {
        let daemon = lab.get(name)?.daemon().context("the daemon runs")?;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a limit")?;
        anyhow::ensure!(core.split_whitespace().nth(4) == Some("0"), "{core}");
        let pid = Pid::from_raw(daemon.pid).context("a process number")?;
        // As if somebody had asked for cores: that the process is undumpable must be enough.
        let hard = rustix::process::prlimit(
            Some(pid),
            Resource::Core,
            Rlimit { current: Some(1 << 30), maximum: None },
        );
        hard.with_context(|| format!("raise the limit of {name}"))?;
        let folder = std::fs::read_link(format!("/proc/{}/cwd", daemon.pid))?;
        let before = cores(&folder);
        daemon.signal(Signal::ABORT)?;
        daemon.wait_gone(Duration::from_secs(60))?;
        let left = cores(&folder);
        anyhow::ensure!(!seen || left == before, "the daemon of {name} left a core: {left:?}");
    }
    Ok(())
}

/// Whether another process that aborts does leave a core, so that there would be something to see. Where the kernel hands cores to
/// a program, there is not, and only the limit is looked at.
fn cores_can_be_seen(lab: &Lab) -> Result<bool> {
    let folder = lab.folder().join("core");
    std::fs::create_dir_all(&folder)?;
    let line = format!("ulimit -c unlimited; cd {}; sh -c 'kill -ABRT $$'; true", folder.display());
    lab.get(M1)?.host()?.run(["sh", "-c", &line])?;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let seen = !cores(&folder).is_empty();
    anyhow::ensure!(seen || pattern.starts_with(['|', '/']), "no core with the pattern {pattern:?}");
    Ok(seen)
}

/// Files in this folder that are named as the kernel names cores (core(5)), with their lengths and times.
fn cores(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64, Option<std::time::SystemTime>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let cores = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
    let mut found: Vec<_> = cores
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            metadata.is_file().then(|| (entry.path(), metadata.len(), metadata.modified().ok()))
        })
        .collect();
    found.sort();
    found
}
