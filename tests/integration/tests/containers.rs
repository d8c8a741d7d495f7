//! What a container sees, and what its output becomes, told by the responder inside.

use std::io::{BufRead as _, BufReader};

use anyhow::Context as _;
use coracle_integration::harness;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, W1};
use coracle_integration::view::Task;

#[test]
fn containers_are_what_was_asked_for_and_their_output_is_kept() {
    harness::test("containers", 1, 1, |lab| {
        identity_and_environment(lab)?;
        placeholders(lab)?;
        mounts(lab)?;
        a_source_that_does_not_answer(lab)?;
        networks(lab)?;
        logs(lab)
    });
}

/// Runs a service on w1 and waits until its log has a text; gives the whole log.
fn says(lab: &Lab, name: &str, flags: &str, arguments: &str, text: &str) -> anyhow::Result<String> {
    let place = "--constraint node.hostname==w1 --restart-condition none";
    lab.cli(M1, &format!("service create --detach --name {name} {place} {flags} responder:1 {arguments}"))
        .ok()?;
    let mut told = String::new();
    let result = lab.until(&format!("{name} says {text:?}"), |lab| {
        told = lab.cli(M1, &format!("service logs {name}")).ok()?;
        Ok(told.contains(text))
    });
    lab.cli(M1, &format!("service rm {name}")).ok()?;
    result.map_err(|error| error.context(format!("log of {name}:\n{told}")))?;
    Ok(told)
}

fn identity_and_environment(lab: &Lab) -> anyhow::Result<()> {
    let flags = "--user guest --workdir /tmp --hostname inside";
    let told = says(lab, "who", flags, "id", "Seccomp=")?;
    for line in [
        "user=1000",
        "group=1000",
        "hostname=inside",
        "process=1",
        "folder=/tmp",
        "NoNewPrivs=1",
        "Seccomp=2",
    ] {
        anyhow::ensure!(told.contains(line), "{line} is missing in:\n{told}");
    }
    anyhow::ensure!(
        told.contains("CapEff=0000000000000000"),
        "a user that is not root has no capabilities:\n{told}"
    );
    let told = says(lab, "root", "", "id", "Seccomp=")?;
    // Docker's default set, bit for bit.
    anyhow::ensure!(told.contains("CapEff=00000000a80425fb"), "{told}");
    let told = says(lab, "env", "--env COLOUR=green --env MADE_BY=test", "env", "MADE_BY=test")?;
    anyhow::ensure!(told.contains("COLOUR=green") && told.contains("PATH=/"), "{told}");
    anyhow::ensure!(
        !told.contains("MADE_BY=lab"),
        "the service's environment goes before the image's:\n{told}"
    );
    Ok(())
}

/// They are filled in for each task on its node. A changed label of the service disturbs no task, and new ones see it.
fn placeholders(lab: &Lab) -> anyhow::Result<()> {
    let folder = lab.folder().join("of-slots");
    std::fs::create_dir_all(&folder)?;
    let create = |flags: &str| {
        lab.cli(M1, &format!("service create --detach --name filled --constraint node.hostname==w1 {flags}"))
    };
    create("--hostname {{.Node.Nope}} responder:1").refused(&[
        "hostname",
        "at character 1: {{.Node.Nope}}",
        "{{.Task.Slot}}",
    ])?;
    create("--hostname '{{index .Service.Labels `zone`}}..x' responder:1")
        .refused(&["hostname", "invalid value \"..x\""])?;
    let env = "--env 'AT={{.Node.Hostname}}/{{index .Service.Labels `zone`}}/{{.Task.Name}}/{{`{{`}}'";
    let bind = format!(
        "--mount type=bind,source={}/{{{{.Task.Slot}}}},target=/{{{{.Service.Name}}}},bind-create-src",
        folder.display()
    );
    let flags = format!(
        "--replicas 2 --label zone=a --hostname {{{{.Service.Name}}}}-{{{{.Task.Slot}}}} {env} {bind}"
    );
    create(&format!("{flags} --restart-delay 0s responder:1 sleep")).ok()?;
    lab.eventually("both run", |view| view.settled("filled", 2))?;
    anyhow::ensure!(
        folder.join("1").is_dir() && folder.join("2").is_dir(),
        "each slot has a folder of its own"
    );
    let told = || -> anyhow::Result<Vec<(i32, String)>> {
        let view = lab.view()?;
        let mut told = Vec::new();
        for task in view.tasks_of("filled").filter(|task| task.is_running()) {
            let process = lab.get(W1)?.process(task.pid)?.context("its process is not there")?;
            let environ = std::fs::read(format!("/proc/{}/environ", process.pid))?;
            told.push((process.pid, String::from_utf8_lossy(&environ).replace('\0', " ")));
        }
        told.sort();
        Ok(told)
    };
    let before = told()?;
    for (pid, environ) in &before {
        anyhow::ensure!(environ.contains("AT=w1/a/filled.") && environ.contains("/{{"), "{environ}");
        anyhow::ensure!(
            environ.contains("HOSTNAME=filled-1") || environ.contains("HOSTNAME=filled-2"),
            "{environ}"
        );
        anyhow::ensure!(std::path::Path::new(&format!("/proc/{pid}/root/filled")).is_dir());
    }
    lab.cli(M1, "service update --detach --label-add zone=b filled").ok()?;
    lab.eventually("it settles", |view| view.settled("filled", 2))?;
    anyhow::ensure!(told()? == before, "a label of the service disturbs no task");
    lab.cli(M1, "service update --detach --force --update-parallelism 0 filled").ok()?;
    lab.until("new tasks see the new label", |lab| {
        let told = told().unwrap_or_default();
        let settled = lab.view()?.settled("filled", 2);
        Ok(settled && told.len() == 2 && told.iter().all(|(_, environ)| environ.contains("AT=w1/b/")))
    })?;
    lab.cli(M1, "service rm filled").ok()?;
    Ok(())
}

fn mounts(lab: &Lab) -> anyhow::Result<()> {
    let source = lab.folder().join("shared");
    std::fs::create_dir_all(&source)?;
    let bind = format!("--mount type=bind,source={},target=/shared", source.display());
    says(lab, "bind", &bind, "write /shared/file", "wrote /shared/file")?;
    anyhow::ensure!(source.join("file").is_file(), "what is written to a bind mount is on the host");
    says(lab, "fixed", &format!("{bind},readonly"), "write /shared/other", "cannot write /shared/other")?;
    says(lab, "sealed", "--read-only", "write /tmp/x", "cannot write /tmp/x")?;
    says(
        lab,
        "tmpfs",
        "--read-only --mount type=tmpfs,target=/tmp,tmpfs-size=1m",
        "write /tmp/x",
        "wrote /tmp/x",
    )?;
    says(lab, "own", "", "write /tmp/x", "wrote /tmp/x")?;
    lab.cli(M1, "service create --detach --name lost --restart-condition none --mount type=bind,source=/not/there,target=/x responder:1 sleep")
        .ok()?;
    lab.eventually("a missing source rejects the task", |view| {
        view.tasks_of("lost").any(|task| task.is_terminal() && task.error.contains("/not/there"))
    })?;
    lab.cli(M1, "service rm lost").ok()?;
    Ok(())
}

/// As on a network file system without a server: tasks that hang hold up no others on their node, and fail when it is over.
fn a_source_that_does_not_answer(lab: &Lab) -> anyhow::Result<()> {
    // More than are made at a time.
    const HANGING: usize = 8;
    let host = lab.get(W1)?.host()?;
    let place = lab.folder().join("dead");
    std::fs::create_dir_all(&place)?;
    // Its requests go to whoever has that descriptor, and nobody answers them.
    let script = format!(
        "node=/dev/fuse; [ -e $node ] || {{ node={0}.node; mknod $node c 10 229; }}; exec 3<>$node; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead {0}; exec sleep infinity",
        place.display()
    );
    let mut holder = host.command("setpriv").args(["--pdeathsig", "KILL", "sh", "-c", &script]).spawn()?;
    lab.until("the file system is mounted", |_| {
        Ok(host.run(["cat", "/proc/self/mountinfo"])?.contains("/dead rw"))
    })?;
    let place = format!("--mount type=bind,source={}/data,target=/data", place.display());
    let on_w1 = "--constraint node.hostname==w1";
    lab.cli(M1, &format!("service create --detach --name dead --replicas {HANGING} --restart-condition none {on_w1} {place} responder:1 sleep"))
        .ok()?;
    let hangs = |task: &Task| task.node == "w1" && !task.is_running() && !task.is_terminal();
    lab.eventually("all hang", |view| view.tasks_of("dead").filter(|task| hangs(task)).count() == HANGING)?;
    lab.cli(M1, &format!("service create --detach --name alive {on_w1} responder:1 sleep")).ok()?;
    let view = lab.eventually("another one runs", |view| view.settled("alive", 1))?;
    anyhow::ensure!(view.tasks_of("dead").all(hangs), "they did not hang");
    holder.kill()?;
    holder.wait()?;
    lab.eventually("they fail, and it is told why", |view| {
        view.tasks_of("dead").all(|task| task.is_terminal() && task.error.contains("/dead/data"))
    })?;
    lab.cli(M1, "service rm dead alive").ok()?;
    Ok(())
}

fn networks(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name host --network host --constraint node.hostname==w1 responder:1")
        .ok()?;
    let address = format!("{}:8080", W1.address());
    let from = lab.get(M1)?.host()?;
    lab.until("the host's network answers", |_| Ok(coracle_integration::http::get(from, &address).is_ok()))?;
    lab.cli(M1, "service rm host").ok()?;
    lab.eventually("it is gone", |view| view.tasks.is_empty())?;
    lab.cli(M1, "service create --name alone --constraint node.hostname==w1 responder:1").ok()?;
    anyhow::ensure!(
        coracle_integration::http::get(from, &address).is_err(),
        "a network of its own has only loopback"
    );
    lab.cli(M1, "service rm alone").ok()?;
    Ok(())
}

fn logs(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name talk --replicas 2 responder:1 print 20").ok()?;
    lab.until("all lines have come", |lab| {
        let told = lab.cli(M1, "service logs talk").ok_both()?;
        Ok(told.matches(" line 20 of 20").count() >= 4)
    })?;
    let tail = lab.cli(M1, "service logs --tail 2 talk").ok_both()?;
    anyhow::ensure!(tail.lines().count() == 4, "two lines of each of two tasks:\n{tail}");
    let out = lab.cli(M1, "service logs talk").ok()?;
    anyhow::ensure!(
        !out.contains("error line"),
        "standard error of a container goes to standard error:\n{out}"
    );
    follow(lab)?;
    lab.cli(M1, "service rm talk").ok()?;
    lab.cli(M1, "service logs talk").refused(&["talk"])?;
    Ok(())
}

/// A follower sees lines that are printed after it came, and ends with the service.
fn follow(lab: &Lab) -> anyhow::Result<()> {
    lab.cli(M1, "service create --name tick responder:1 print 100000 50").ok()?;
    let mut child = lab.spawn_cli(M1, "service logs --follow --tail 0 tick")?;
    let output = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no output to read"))?;
    let lines: Vec<String> = BufReader::new(output).lines().take(5).collect::<Result<_, _>>()?;
    anyhow::ensure!(lines.iter().all(|line| line.contains("line")) && lines.len() == 5, "{lines:?}");
    lab.cli(M1, "service rm tick").ok()?;
    child.kill()?;
    child.wait()?;
    Ok(())
}
