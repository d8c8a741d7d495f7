//! Starting, ending, recovering and deleting containers. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::log::{LogOptions, LogReader, LogStream};
use coracle_agent_runtime::{
    BindOptions, ExitReason, FailureKind, LogConfig, Mount, Network, Runtime, RuntimeConfig, RuntimeError,
    Status,
};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::{Lab, PATIENCE, eventually, unique};

fn supervisor_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A process that left its cgroup, the last thing that the runtime can wait for, has a few instructions to go before others
/// see that it has ended.
fn has_ended(pid: i32) {
    eventually("the process has ended", || !is_alive(pid));
}

fn kill_process(pid: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn exit_codes_and_signals() {
    let Some(lab) = Lab::new() else { return };
    assert_eq!(lab.finish(&lab.spec(&["true"])).code(), 0);
    assert_eq!(lab.finish(&lab.shell("exit 42")).code(), 42);
    let id = unique("signal");
    lab.runtime()
        .run(&id, &lab.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"))
        .unwrap();
    eventually("the trap is set", || lab.output(&id).0.contains("ready"));
    lab.runtime().signal(&id, 15).unwrap();
    assert_eq!(lab.finished(&id).code(), 9);
    assert!(matches!(lab.runtime().signal(&id, 15), Err(RuntimeError::WrongState { .. })));
    let id = unique("kill");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    lab.runtime().kill(&id).unwrap();
    assert_eq!(lab.finished(&id).exit.reason, ExitReason::Signal(9));
    lab.runtime().kill(&id).unwrap();
}

/// As systemd does it, in a container that may.
#[test]
fn what_moved_into_a_cgroup_of_its_own_is_killed_too() {
    let Some(lab) = Lab::new() else { return };
    let id = unique("nested");
    let move_away = "for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
        test -w $root/cgroup.procs && mkdir -p $root/own/deeper && echo $$ > $root/own/deeper/cgroup.procs
        done; echo moved; exec sleep 1000";
    let mut spec = lab.shell(move_away);
    spec.privileged = true;
    lab.runtime().run(&id, &spec).unwrap();
    eventually("it has moved", || lab.output(&id).0.contains("moved"));
    lab.runtime().kill(&id).unwrap();
    assert_eq!(lab.finished(&id).exit.reason, ExitReason::Signal(9));
}

#[test]
fn created_containers_wait_for_their_start() {
    let Some(lab) = Lab::new() else { return };
    let (sender, ends) = mpsc::channel();
    lab.runtime().subscribe(move |id, exit| sender.send((id.clone(), exit.clone())).unwrap());
    let id = unique("wait");
    lab.runtime().create(&id, &lab.shell("echo hello")).unwrap();
    assert_eq!(lab.runtime().status(&id).unwrap(), Status::Created);
    assert!(matches!(lab.runtime().create(&id, &lab.spec(&["true"])), Err(RuntimeError::AlreadyExists(_))));
    assert_eq!(lab.runtime().wait(&id, Some(Duration::from_millis(1))).unwrap(), None);
    lab.runtime().start(&id).unwrap();
    let finished = lab.finished(&id);
    assert_eq!((finished.code(), finished.stdout.as_str()), (0, "hello\n"));
    let (ended, exit) = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ended, exit), (id.clone(), finished.exit));
    lab.runtime().delete(&id).unwrap();
    lab.runtime().delete(&id).unwrap();
    assert!(matches!(lab.runtime().status(&id), Err(RuntimeError::NotFound(_))));

    // One that is never started can be killed and deleted.
    lab.runtime().create(&id, &lab.spec(&["true"])).unwrap();
    lab.runtime().kill(&id).unwrap();
    let exit = lab.runtime().wait(&id, Some(PATIENCE)).unwrap().unwrap();
    assert!(matches!(exit.reason, ExitReason::SetupFailed(_)), "{exit:?}");
    // A missing program shows at the start of a created container.
    let id = unique("late");
    lab.runtime().create(&id, &lab.spec(&["nothing-like-this"])).unwrap();
    let error = lab.runtime().start(&id).unwrap_err();
    assert!(error.is_rejection() && error.to_string().contains("ENOENT"), "{error}");
    assert_eq!(lab.finished(&id).exit.exit_code(), Some(127));
}

#[test]
fn failures_name_the_step_and_leave_nothing() {
    let Some(lab) = Lab::new() else { return };
    let kind = |spec| match lab.runtime().run(&unique("fail"), &spec).unwrap_err() {
        RuntimeError::Setup { failure, .. } => {
            println!("{failure}");
            failure.kind
        }
        other => panic!("{other}"),
    };
    assert_eq!(kind(lab.spec(&["no-such-program"])), FailureKind::ProgramNotFound);
    assert_eq!(kind(lab.spec(&["/etc/passwd"])), FailureKind::ProgramNotExecutable);
    let mut spec = lab.spec(&["true"]);
    spec.mounts = vec![Mount::Bind {
        source: lab.host("absent"),
        target: "/data".into(),
        read_only: false,
        recursive: true,
        options: BindOptions::default(),
    }];
    assert_eq!(kind(spec), FailureKind::MissingBindSource);
    let mut spec = lab.spec(&["true"]);
    spec.user.user = "stranger".into();
    assert_eq!(kind(spec), FailureKind::UnknownUser);
    let mut spec = lab.spec(&["true"]);
    spec.rootfs = coracle_agent_runtime::Rootfs::Overlay { lower: vec![lab.host("no-layer")] };
    assert_eq!(kind(spec), FailureKind::Other);
    assert!(lab.runtime().list().is_empty());
    assert_eq!(fs::read_dir(&lab.config.state_dir).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&lab.config.run_dir).unwrap().count(), 0);
}

#[test]
fn output_is_logged_line_by_line() {
    let Some(lab) = Lab::new() else { return };
    let script =
        "echo out; echo err >&2; printf 'no newline'; echo again > /dev/stdout; echo more > /proc/self/fd/2";
    let mut spec = lab.shell(script);
    spec.user.user = "web".into();
    let finished = lab.finish(&spec);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    assert_eq!(finished.stdout, "out\nno newlineagain\n");
    assert_eq!(finished.stderr, "err\nmore\n");
}

#[test]
fn logs_rotate_while_followed() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    spec.log =
        LogConfig { directory: Some(lab.host("logs")), max_size: 100_000, max_files: 3, discard: false };
    let id = unique("log");
    lab.runtime().run(&id, &spec).unwrap();
    let mut reader = LogReader::open(&lab.host("logs"), &LogOptions::default()).unwrap();
    let mut last = None;
    loop {
        let over = matches!(lab.runtime().status(&id).unwrap(), Status::Exited(_));
        while let Some(entry) = reader.next_entry().unwrap() {
            assert_eq!(entry.stream, LogStream::Stdout);
            let number: u32 = entry.text.trim().trim_start_matches("line ").parse().unwrap();
            assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
            last = Some(number);
        }
        if over {
            break;
        }
        reader.wait(Duration::from_millis(50)).unwrap();
    }
    assert_eq!(last, Some(19_999));
    let sizes: Vec<u64> = fs::read_dir(lab.host("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size < 200_000), "{sizes:?}");
    let tail = LogOptions { tail: Some(2), since: None };
    let mut reader = LogReader::open(&lab.host("logs"), &tail).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().text, "line 19998\n");
}

#[test]
fn containers_survive_a_closed_runtime() {
    let Some(mut lab) = Lab::new() else { return };
    let (living, ending, waiting) = (unique("living"), unique("ending"), unique("waiting"));
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.labels.insert("task".into(), "t1".into());
    lab.runtime().run(&living, &spec).unwrap();
    lab.runtime().run(&ending, &lab.shell("read line < /run/go; exit 5").with_fifo(&lab)).unwrap();
    lab.runtime().create(&waiting, &lab.shell("echo started late")).unwrap();
    let before = lab.runtime().inspect(&living).unwrap();
    let state = lab.config.state_dir.join(ending.as_str());
    lab.close();
    fs::write(lab.host("fifo/go"), "go\n").unwrap();
    eventually("the exit is recorded", || state.join("exit.json").exists());
    lab.reopen();
    assert_eq!(lab.runtime().inspect(&living).unwrap(), before);
    assert_eq!(before.labels["task"], "t1");
    assert_eq!(lab.finished(&ending).code(), 5);
    assert_eq!(lab.runtime().status(&waiting).unwrap(), Status::Created);
    lab.runtime().start(&waiting).unwrap();
    assert_eq!(lab.finished(&waiting).stdout, "started late\n");
    lab.runtime().signal(&living, 9).unwrap();
    assert_eq!(lab.finished(&living).exit.reason, ExitReason::Signal(9));
    assert_eq!(lab.runtime().list().len(), 3);
    lab.runtime().recover().unwrap();
    assert_eq!(lab.runtime().list().len(), 3);
}

/// A service manager that empties the run directory costs containers their control socket, nothing else.
#[test]
fn containers_survive_the_loss_of_the_run_directory() {
    let Some(mut lab) = Lab::new() else { return };
    let (trapping, killed) = (unique("trapping"), unique("killed"));
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    lab.runtime().run(&trapping, &lab.shell(script)).unwrap();
    lab.runtime().run(&killed, &lab.spec(&["sleep", "1000"])).unwrap();
    eventually("the trap is set", || lab.output(&trapping).0.contains("ready"));
    let before = lab.runtime().list();
    lab.close();
    fs::remove_dir_all(&lab.config.run_dir).unwrap();
    lab.reopen();
    assert_eq!(lab.runtime().list(), before);
    lab.runtime().signal(&trapping, 15).unwrap();
    assert_eq!(lab.finished(&trapping).code(), 9);
    lab.runtime().kill(&killed).unwrap();
    assert_eq!(lab.finished(&killed).exit.reason, ExitReason::Signal(9));
}

/// A small file system that is gone with the test.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Self {
        let arguments = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        assert!(Command::new("mount").args(arguments).arg(path).status().unwrap().success());
        Self(path)
    }

    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_does_not_cost_the_exit() {
    let Some(mut lab) = Lab::new() else { return };
    let state = lab.config.state_dir.clone();
    lab.close();
    let disk = SmallDisk::mount(&state);
    lab.reopen();
    let id = unique("full");
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    lab.runtime().run(&id, &lab.shell(script)).unwrap();
    eventually("the trap is set", || lab.output(&id).0.contains("ready"));
    disk.fill();
    assert!(fs::write(state.join("more"), [1; 4096]).is_err());
    lab.runtime().signal(&id, 15).unwrap();
    assert_eq!(lab.runtime().wait(&id, Some(PATIENCE)).unwrap().unwrap().reason, ExitReason::Code(9));
    assert!(state.join(id.as_str()).join("exit.json").exists());
    fs::remove_file(state.join("filler")).unwrap();
    lab.runtime().delete(&id).unwrap();
    lab.close();
    drop(disk);
}

#[test]
fn an_unreadable_exit_record_is_kept() {
    let Some(mut lab) = Lab::new() else { return };
    let id = unique("kept");
    lab.runtime().run(&id, &lab.shell("exit 4")).unwrap();
    assert_eq!(lab.finished(&id).code(), 4);
    lab.close();
    let record = lab.config.state_dir.join(id.as_str()).join("exit.json");
    let (aside, text) = (record.with_extension("aside"), fs::read(&record).unwrap());
    fs::rename(&record, &aside).unwrap();
    fs::create_dir(&record).unwrap();
    lab.reopen();
    assert!(matches!(lab.finished(&id).exit.reason, ExitReason::Lost(why) if why.contains("cannot be read")));
    lab.close();
    fs::remove_dir(&record).unwrap();
    fs::rename(&aside, &record).unwrap();
    lab.reopen();
    assert_eq!(lab.finished(&id).code(), 4);
    assert_eq!(fs::read(&record).unwrap(), text);
}

trait WithFifo {
    fn with_fifo(self, lab: &Lab) -> Self;
}

impl WithFifo for coracle_agent_runtime::ContainerSpec {
    /// A named pipe at /run/go that ends the container when the host writes to it.
    fn with_fifo(mut self, lab: &Lab) -> Self {
        fs::create_dir(lab.host("fifo")).unwrap();
        assert!(Command::new("mkfifo").arg(lab.host("fifo/go")).status().unwrap().success());
        self.mounts.push(Mount::Bind {
            source: lab.host("fifo"),
            target: "/run".into(),
            read_only: false,
            recursive: false,
            options: BindOptions::default(),
        });
        self
    }
}

/// Stands in for a daemon: runs a container and waits to be killed. Does so only when the test below starts it.
#[test]
fn daemon_process() {
    let Ok(place) = std::env::var("CORACLE_TEST_PLACE") else { return };
    let place = Path::new(&place);
    let config = RuntimeConfig::new(
        place.join("state"),
        place.join("run"),
        std::env::var("CORACLE_TEST_CGROUP").unwrap(),
    );
    let runtime = Runtime::open(config).unwrap();
    let args = ["sh", "-c", "while :; do echo tick; sleep 0.01; done"].map(str::to_owned);
    let spec = coracle_agent_runtime::ContainerSpec::new(vec![place.join("layer")], args.to_vec());
    runtime.run(&"survivor".parse().unwrap(), &spec).unwrap();
    fs::write(place.join("ready"), "").unwrap();
    std::thread::sleep(PATIENCE);
}

/// Nothing of a container is where a service manager would look for processes of the daemon.
#[test]
fn supervisors_leave_the_daemon_in_every_hierarchy() {
    let Some(lab) = Lab::new() else { return };
    let id = unique("away");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    let membership = fs::read_to_string(format!("/proc/{}/cgroup", supervisor_of(lab.pid(&id)))).unwrap();
    let checked = ["memory", "pids", "name=systemd", ""];
    for line in membership.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if checked.contains(&controllers) {
            assert_eq!(path, format!("/{}/supervisors", lab.config.cgroup_parent), "{line}");
        }
    }
}

#[test]
fn daemon_killed_and_restarted() {
    let Some(mut lab) = Lab::new() else { return };
    lab.close();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["daemon_process", "--exact"])
        .env("CORACLE_TEST_PLACE", lab.directory.path())
        .env("CORACLE_TEST_CGROUP", &lab.config.cgroup_parent)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the daemon runs its container", || lab.host("ready").exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    lab.reopen();
    let id = "survivor".parse().unwrap();
    let pid = lab.pid(&id);
    assert!(is_alive(pid));
    let ticks = lab.output(&id).0.len();
    eventually("it goes on logging", || lab.output(&id).0.len() > ticks);
    lab.runtime().kill(&id).unwrap();
    assert_eq!(lab.finished(&id).exit.reason, ExitReason::Signal(9));
    lab.runtime().delete(&id).unwrap();
}

#[test]
fn killed_supervisor_takes_its_container_along() {
    let Some(mut lab) = Lab::new() else { return };
    let id = unique("orphan");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    let pid = lab.pid(&id);
    kill_process(supervisor_of(pid));
    let exit = lab.finished(&id).exit;
    assert!(matches!(exit.reason, ExitReason::Lost(_)), "{exit:?}");
    assert_eq!(exit.exit_code(), None);
    has_ended(pid);

    // The same while nobody watches.
    let id = unique("orphan");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    let pid = lab.pid(&id);
    let supervisor = supervisor_of(pid);
    lab.close();
    kill_process(supervisor);
    lab.reopen();
    assert!(matches!(lab.finished(&id).exit.reason, ExitReason::Lost(_)));
    has_ended(pid);
}

#[test]
fn another_boot_means_lost() {
    let Some(mut lab) = Lab::new() else { return };
    let id = unique("boot");
    lab.runtime().create(&id, &lab.spec(&["true"])).unwrap();
    lab.runtime().kill(&id).unwrap();
    lab.finished(&id);
    lab.close();
    let state = lab.config.state_dir.join(id.as_str());
    fs::remove_file(state.join("exit.json")).unwrap();
    fs::remove_dir_all(lab.config.run_dir.join(id.as_str())).unwrap();
    let file = fs::read_to_string(state.join("container.json")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(state.join("container.json"), file.replace(boot.trim(), "another")).unwrap();
    lab.reopen();
    match lab.finished(&id).exit.reason {
        ExitReason::Lost(why) => assert_eq!(why, "the host restarted"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn half_made_containers_can_be_deleted() {
    let Some(mut lab) = Lab::new() else { return };
    lab.close();
    let id = unique("half");
    fs::create_dir_all(lab.config.state_dir.join(id.as_str()).join("work/work")).unwrap();
    let other = unique("run-only");
    fs::create_dir_all(lab.config.run_dir.join(other.as_str())).unwrap();
    lab.reopen();
    for id in [&id, &other] {
        assert_eq!(lab.runtime().status(id).unwrap(), Status::Unknown);
        assert!(lab.runtime().signal(id, 9).is_err());
        lab.runtime().delete(id).unwrap();
    }
    assert!(lab.runtime().list().is_empty());
    lab.runtime().delete(&unique("never")).unwrap();
}

#[test]
fn deleting_ends_what_runs() {
    let Some(lab) = Lab::new() else { return };
    let id = unique("busy");
    let script = "trap '' TERM; for i in 1 2 3 4 5; do sh -c 'setsid sleep 1000' & done; sleep 1000";
    lab.runtime().run(&id, &lab.shell(script)).unwrap();
    let pid = lab.pid(&id);
    let supervisor = supervisor_of(pid);
    lab.runtime().delete(&id).unwrap();
    has_ended(pid);
    has_ended(supervisor);
    assert!(!lab.config.state_dir.join(id.as_str()).exists());
    lab.runtime().run(&id, &lab.spec(&["true"])).unwrap();
    assert_eq!(lab.finished(&id).code(), 0);
}

#[test]
fn small_init_reaps_and_forwards() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab
        .shell("echo pid $$; (sleep 0.05 &) ; trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    spec.init = true;
    let id = unique("init");
    lab.runtime().run(&id, &spec).unwrap();
    eventually("the trap is set", || lab.output(&id).0.contains("ready"));
    let descriptors = format!("/proc/{}/fd", lab.pid(&id));
    eventually("it keeps nothing open but its input", || fs::read_dir(&descriptors).unwrap().count() == 1);
    lab.runtime().signal(&id, 15).unwrap();
    let finished = lab.finished(&id);
    assert_eq!(finished.code(), 7);
    assert!(finished.stdout.starts_with("pid 2\n"), "{}", finished.stdout);
    let mut spec = lab.spec(&["absent"]);
    spec.init = true;
    assert!(lab.runtime().run(&unique("init"), &spec).unwrap_err().is_rejection());
    let mut spec = lab.shell("kill -9 $$");
    spec.init = true;
    assert_eq!(lab.finish(&spec).code(), 137);
}

#[test]
fn many_layers() {
    let Some(lab) = Lab::new() else { return };
    let mut lower = vec![lab.layer()];
    for number in 0..120 {
        let layer = lab.host(&format!("a-long-name-for-a-layer-directory-{number:040}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        lower.insert(0, layer);
    }
    let mut spec = lab.shell("ls / | grep -c file-; cat /top");
    spec.rootfs = coracle_agent_runtime::Rootfs::Overlay { lower };
    assert_eq!(lab.stdout(&spec), "120\n119");
}

/// Figures, not assertions.
#[test]
fn figures() {
    let Some(lab) = Lab::new() else { return };
    for network in [Network::None, Network::Host] {
        let mut spec = lab.spec(&["true"]);
        spec.network = network.clone();
        let (mut started, mut ended, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..30 {
            let id = unique("time");
            let begin = Instant::now();
            lab.runtime().run(&id, &spec).unwrap();
            started.push(begin.elapsed());
            lab.finished(&id);
            ended.push(begin.elapsed());
            lab.runtime().delete(&id).unwrap();
            deleted.push(begin.elapsed());
        }
        for (what, times) in [("started", &mut started), ("ended", &mut ended), ("deleted", &mut deleted)] {
            times.sort();
            println!("network {network:?}: {what} after {:?} (median), {:?} (worst)", times[15], times[29]);
        }
    }
    let ids: Vec<_> = (0..20).map(|_| unique("memory")).collect();
    for id in &ids {
        lab.runtime().run(id, &lab.spec(&["sleep", "1000"])).unwrap();
    }
    let pss: Vec<u64> = ids
        .iter()
        .map(|id| {
            let path = format!("/proc/{}/smaps_rollup", supervisor_of(lab.pid(id)));
            let text = fs::read_to_string(path).unwrap();
            let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        })
        .collect();
    println!(
        "supervisor PSS with {} running: {} KiB on average",
        pss.len(),
        pss.iter().sum::<u64>() / pss.len() as u64
    );
    println!("{:?}", lab.runtime().stats(&ids[0]).unwrap());
}
