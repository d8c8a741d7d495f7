//! What the commands print and how they end, against a manager with canned state.
//!
//! The expected texts are in `snapshots/`; `INSTA_UPDATE=always` writes them anew, to be read before they are committed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
#[path = "golden/volumes.rs"]
mod volumes;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fake::{Behaviour, Fake};

fn command(fake: &Fake, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command
        .env_clear()
        .env("CORACLE_SOCKET", fake.socket())
        .env("FROM_HERE", "yes")
        .current_dir(fake.folder());
    command.args(words(line)).stdin(Stdio::null());
    command
}

/// Splits at spaces; single quotes keep them.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

fn shown(fake: &Fake, line: &str, output: &Output) -> String {
    let folder = fake.folder().display().to_string();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&folder, "$FOLDER");
    let mut shown = format!("$ coracle {line}\n{}", text(&output.stdout));
    for line in text(&output.stderr).lines() {
        writeln!(shown, "! {line}").unwrap();
    }
    writeln!(shown, "= {}", output.status.code().map_or("signal".to_owned(), |code| code.to_string()))
        .unwrap();
    shown
}

/// Runs the lines against one manager and compares everything that they print.
fn golden_with(fake: &Fake, name: &str, lines: &[&str]) {
    let parts = lines.iter().map(|line| shown(fake, line, &command(fake, line).output().unwrap()));
    insta::assert_snapshot!(name, parts.collect::<Vec<_>>().join("\n"));
}

fn golden(name: &str, lines: &[&str]) {
    golden_with(&Fake::start(Behaviour::Manager), name, lines);
}

#[test]
fn lists_of_services() {
    golden(
        "service_ls",
        &[
            "service ls",
            "service ls -q",
            "service ls --no-trunc --filter name=we",
            "service ls --format '{{.ID}} {{.name}}: {{.Replicas}}'",
            "service ls --format 'table {{.Name}}\\t{{.Image}}'",
            "service ls --format json --filter mode=global",
            "service ls --format '{{.Nope}}'",
            "service ls --filter colour=red",
            "service ls -q --filter runtime=container --filter label=team=web",
            "service ls --filter runtime=plugin",
            "service ls --filter mode=globl",
            "service ls --format '{{.Name}} {{.Ports}} {{.Labels}} {{.Label \"team\"}} {{.Label \"none\"}}'",
            "service ls --format yaml",
        ],
    );
}

#[test]
fn lists_of_tasks() {
    golden(
        "ps",
        &[
            "service ps web",
            "service ps web --no-trunc --filter desired-state=running",
            "service ps web -q",
            "service ps --no-resolve web",
            "service ps nope",
            "service ps -q --filter label=team=web --filter name=web.2 web",
            "service ps -q --filter label=task=atas --filter label=task=btas web",
            "service ps -q --filter label=task=none web",
            "service ps -q --filter node=self web",
            "service ps -q --filter up-to-date=false --filter runtime=container web",
            "service ps -q --filter _up-to-date=true web",
            "service ps -q --filter desired-state=accepted web",
            "service ps --filter desired-state=gone web",
            "service ps --filter up-to-date=perhaps web",
            "service ps --filter colour=red web",
            "service ps --format '{{.Name}}: {{.DesiredState}}, {{.Ports}}' web",
            "service ps import --filter desired-state=complete",
            "node ps",
            "task inspect atas --format '{{.Status.Exit.Description}} on {{.Node}}'",
            "task inspect dtas --format '{{json .Ports}} {{json .Spec.Container.Labels}} {{.UpToDate}} {{.Run}}'",
            "task inspect etas --format '{{.DesiredState}} {{.Run}}'",
            "task inspect nope",
            "task inspect too-large",
            "task inspect atas --format '{{.Spec.ContainerSpec.Image}} {{.Status.ContainerStatus.ExitCode}} {{.ServiceID}}'",
        ],
    );
}

#[test]
fn services_in_detail() {
    golden(
        "service_inspect",
        &[
            "service inspect web",
            "service inspect --pretty web",
            "service inspect web nope stuck --format '{{.Spec.Name}} {{.Spec.Task.Restart.DelayNs}} {{json .Spec.Labels}}'",
            "service inspect w",
            "service inspect web --format '{{.Spec.Mode.Replicated.Replicas}} {{.Spec.TaskTemplate.ContainerSpec.Image}} {{json .Endpoint.Ports}}'",
            "service inspect web --format '{{.Image}}'",
            "service inspect web --format '{{range .Endpoint.Ports}}{{.}}{{end}}'",
            "service inspect -q web stuck",
            "service inspect import --format '{{.Spec.MaxConcurrent}} {{json .Job}} {{json .Tasks}} {{json .Spec.Update}}'",
            "service inspect --pretty import",
        ],
    );
}

#[test]
fn creating_services() {
    golden(
        "service_create",
        &[
            "service create --name api --replicas 3 -e FROM_HERE -e NOT_THERE api:1 serve --port 80",
            "service inspect api --format '{{json .Spec.Task.Container.Args}} {{json .Spec.Task.Container.Env}}'",
            "service create --name web -d web:1",
            "service create --detach web:1",
            "service create --quiet --name quick web:1",
            "service create",
            "service create --replicas -1 web",
            "service create --replicas 1000000 web",
            "service create --mode global --replicas 2 web",
            "service create --mount type=npipe,source=v,target=/v web",
            "service create --limit-memory 5x web",
            "service create --restart-condition sometimes web",
            "service create --constraint zone=a web",
            "service create --network ingress web",
            "service create --nonsense web",
        ],
    );
}

#[test]
fn changing_services() {
    golden(
        "service_update",
        &[
            "service update --env-add LEVEL=debug --env-add B=2 --mount-rm /data --limit-cpu 0 --force --image web:2 web",
            "service inspect web --format '{{json .Spec.Task.Container}} {{json .Spec.Task.Limits}} {{.Spec.Task.ForceUpdate}}'",
            "service update --detach --env-rm NONE --label-rm none --publish-rm 9 web",
            "service update --rollback --env-add A=1 web",
            "service update --env-add A=1 busy",
            "service update --replicas 3 busy",
            "service update nope",
            "service scale web=5 nope=1",
            "service inspect web --format '{{.Spec.Replicas}}'",
            "service scale web",
            "service rm web nope stuck",
            "service ls -q",
        ],
    );
}

#[test]
fn going_back() {
    golden(
        "service_rollback",
        &[
            "service rollback web",
            "service update -d --env-add A=1 web",
            "service rollback -q web",
            "service update --rollback web",
            "service update --rollback --env-add A=1 web",
            "service rollback nope",
        ],
    );
}

#[test]
fn services_are_rebalanced() {
    golden(
        "service_rebalance",
        &[
            "service rebalance --dry-run web",
            "service rebalance --dry-run --max-moves 1 --format json web",
            "service rebalance --dry-run --format '{{.Task}} {{.To}}' web",
            "service rebalance --stop web",
            "service rebalance web",
            "service inspect --pretty web",
            "service rebalance -q web",
            "service rebalance -d --max-moves 2 web",
            "service rebalance --max-moves 1 web",
            "service rebalance --max-moves 0 web",
            "service rebalance --format json web",
            "service rebalance nope",
            "service create --rebalance sometimes web:1",
        ],
    );
}

#[test]
fn updates_and_jobs_that_fail() {
    golden(
        "failed",
        &[
            "service create --name pauses web:1",
            "service update --force pauses",
            "service create -d --name goes-back web:1",
            "service update --force goes-back",
            "service create -d --name stays-back web:1",
            "service update --force stays-back",
            "service update --force import",
            "service update --image fixed:2 import",
            "service update --label-add a=b import",
            "service rollback -q import",
            "service scale pauses=2 web=4 goes-back=1",
            "service create --name short-lived --restart-condition none --update-monitor 30s web:1",
        ],
    );
}

#[test]
fn every_flag_reaches_the_specification() {
    golden(
        "service_flags",
        &[
            "service create -d --name all --hostname box --entrypoint 'sh -c' --init --tty --group 7 --group wheel \
             --secret key@2 --secret source=token,env=TOKEN --config source=conf,target=/etc/conf,mode=0400,uid=3 \
             --mount source=data,target=/data,volume-label=a=b --mount type=bind,src=/a,dst=/b,bind-propagation=rslave \
             --pre-stop-delay 2s --health-cmd 'test -e /up' --health-retries 2 --cap-add net_admin --cap-drop ALL \
             --security-opt seccomp=unconfined --security-opt no-new-privileges=false --device /dev/fuse:r --gpus 1 \
             --ulimit nofile=5:9 --sysctl net.core.somaxconn=9 --dns 10.0.0.1 --dns-search example.org --dns-option ndots:2 \
             --host db:10.0.0.5 --shm-size 1m --pid host --oom-score-adj -5 --log-driver local --log-opt max-size=1m \
             --limit-memory 64m --memory-swap -1 --memory-swappiness 10 --cpuset-cpus 0-1 --generic-resource GPU=1 \
             --placement-pref spread=node.labels.zone --placement-strategy binpack --anti-affinity team=b --network host \
             --publish mode=host,target=53,protocol=udp --rebalance auto --rebalance-max-skew 2 --node-down-delay 30s --update-parallelism 0 \
             --update-delay 1s --update-monitor 2s --update-failure-action rollback --update-max-failure-ratio 0.25 \
             --update-order start-first --update-timeout 0 --rollback-parallelism 3 web:1",
            "service inspect all",
            "service inspect --pretty all",
            "service create --update-order sideways web:1",
            "service create --update-max-failure-ratio 2 web:1",
            "service create --rollback-failure-action rollback web:1",
            "service create --with-registry-auth web:1",
            "service create --publish 8080:80 web:1",
        ],
    );
}

#[test]
fn output_of_services() {
    golden(
        "service_logs",
        &[
            "service logs web",
            "service logs --raw -t web",
            "service logs --no-resolve --no-trunc web",
            "service logs --details --no-task-ids web",
            "service logs --details --raw web",
            "service logs --follow web",
            "service logs --tail x web",
            "service logs nope",
        ],
    );
}

#[test]
fn a_service_that_does_not_converge() {
    golden(
        "not_converged",
        &["service update --timeout 300ms --force stuck", "service update -q --timeout 300ms stuck"],
    );
}

#[test]
fn nodes() {
    golden(
        "node",
        &[
            "node ls",
            "node ls -q",
            "node ls --filter role=worker --format '{{.ID}} {{.Self}} {{.Address}}'",
            "node ls --format '{{.Hostname}} {{.TLSStatus}} {{.Label \"zone\"}}'",
            "node ls --filter role=boss",
            "node ls --filter membership=maybe",
            "node inspect",
            "node inspect --pretty host-3",
            "node ls -q --filter membership=accepted --filter role=worker",
            "node ls -q --filter membership=pending",
            "node inspect host-3 nope --format '{{.Status.State}}'",
            "node inspect host-3 --format '{{.Description.Hostname}} {{.Spec.Role}} {{.Status.Addr}} <{{.ManagerStatus.Leader}}>'",
            "node update --availability drain --label-add zone=b host-3",
            "node update --label-rm colour host-3",
            "node update --availability gone host-3",
            "node promote host-3",
            "node demote host-2 nope",
            "node rm host-3",
            "node rm --force host-3",
        ],
    );
}

#[test]
fn the_cluster() {
    golden(
        "swarm",
        &[
            "swarm init",
            "swarm join-token worker",
            "swarm join-token -q manager",
            "swarm join-token --rotate worker",
            "swarm join-token operator",
            "swarm join --token SWMTKN-1-a-b 10.0.0.1:2377",
            "swarm join 10.0.0.1:2377",
            "swarm update --allow-privileged",
            "swarm update",
            "swarm leave",
            "swarm leave --force",
        ],
    );
}

#[test]
fn images() {
    let fake = Fake::start(Behaviour::Manager);
    let archive: Vec<u8> = (0..700_000u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(fake.folder().join("web.tar"), &archive).unwrap();
    std::fs::write(fake.folder().join("bad.tar"), b"bad").unwrap();
    golden_with(
        &fake,
        "image",
        &[
            "image load -i web.tar",
            "image load -q -i web.tar",
            "image load -i bad.tar",
            "image load -i missing.tar",
            "image import web.tar base:1",
            "image ls",
            "image ls -q",
            "image ls --format '{{.Name}} {{.InUse}}'",
            "image rm web:1",
        ],
    );
    let archives = fake.state.archives.lock().unwrap();
    let names: Vec<_> = archives.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["", "", "base:1"]);
    assert!(archives.iter().all(|(_, bytes)| *bytes == archive));
}

#[test]
fn this_node() {
    golden(
        "system",
        &[
            "system info",
            "system info --format '{{.State}} {{.Raft.Term}}'",
            "system loops",
            "version",
            "version --format json",
        ],
    );
}

#[test]
fn a_worker_says_where_to_go() {
    golden_with(
        &Fake::start(Behaviour::Worker),
        "worker",
        &["service ls", "service create web", "system info --format '{{.State}}'"],
    );
}

#[test]
fn without_a_daemon() {
    golden(
        "no_daemon",
        &[
            "--socket nowhere.sock service ls",
            "--socket . service ls",
            "--socket nowhere.sock version",
            "--host manager.example node ls",
            "--host 127.0.0.1:1 --cert-dir nowhere node ls",
        ],
    );
}

#[test]
fn words_of_other_programs() {
    golden(
        "elsewhere",
        &[
            "stack deploy -c app.yaml app",
            "network ls",
            "run web:1",
            "ps",
            "image pull web:1",
            "service log web",
            "srevice ls",
            "nonsense",
        ],
    );
}

#[test]
fn a_call_is_repeated_until_there_is_a_leader() {
    let fake = Fake::start(Behaviour::Manager);
    fake.state.refusals.store(3, Ordering::SeqCst);
    golden_with(&fake, "repeated", &["service create -d --name api api:1"]);
    let keys = fake.state.keys.lock().unwrap();
    assert_eq!(keys.len(), 4);
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "one write has one key");
}

#[test]
fn a_token_need_not_be_an_argument() {
    let fake = Fake::start(Behaviour::Manager);
    let token = "CRCTKN-1-00000000000000000000000000000000000000000000000000-0000000000000000000000000";
    let mut child = command(&fake, "swarm join --token - 10.0.0.1:2377")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{token}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "This node joined a swarm as a worker.\n");
    std::fs::write(fake.folder().join("token"), token).unwrap();
    assert!(command(&fake, "swarm join --token-file token 10.0.0.1:2377").output().unwrap().status.success());
    assert_eq!(*fake.state.tokens.lock().unwrap(), [token, token]);
}

#[test]
fn an_archive_may_come_through_a_pipe() {
    let fake = Fake::start(Behaviour::Manager);
    let mut child =
        command(&fake, "image load").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..3 {
        stdin.write_all(&[7; 300_000]).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Loaded image: web:1\n");
    assert_eq!(fake.state.archives.lock().unwrap()[0].1.len(), 900_000);
}

#[test]
fn an_interrupt_detaches() {
    let fake = Fake::start(Behaviour::Manager);
    let mut child = command(&fake, "service update --force stuck").stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while fake.state.watches.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "the command does not watch the service");
        std::thread::sleep(Duration::from_millis(5));
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(told.contains("error: interrupted: service \"stuck\" goes on converging\n"), "{told}");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let fake = Fake::start(Behaviour::Manager);
    for line in ["service ls", "service inspect web", "service rm web stuck", "completion bash"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&fake, line).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
}
