//! Programs beside a container's own. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::{
    BindOptions, Capabilities, ContainerId, ContainerSpec, ExecEnd, ExecResult, ExecSpec, FailureKind, Mount,
    ResourceLimit, RuntimeError, Seccomp, User,
};
use std::fs;
use std::time::{Duration, Instant};
use support::dead::Dead;
use support::{Lab, PATIENCE, eventually, unique};

fn program(words: &[&str]) -> ExecSpec {
    ExecSpec::new(words.iter().map(|&word| word.to_owned()).collect(), PATIENCE)
}

fn running(lab: &Lab, spec: &ContainerSpec) -> ContainerId {
    let id = unique("exec");
    lab.runtime().run(&id, spec).unwrap();
    id
}

fn shell(lab: &Lab, id: &ContainerId, script: &str) -> ExecResult {
    lab.runtime().exec(id, &program(&["sh", "-c", script])).unwrap()
}

fn failure(lab: &Lab, id: &ContainerId, spec: &ExecSpec) -> (FailureKind, String) {
    match lab.runtime().exec(id, spec) {
        Err(RuntimeError::Setup { failure, .. }) => (failure.kind, failure.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn results() {
    let Some(lab) = Lab::new() else { return };
    let id = running(&lab, &lab.spec(&["sleep", "1000"]));
    let result = shell(&lab, &id, "echo out; echo err >&2; exit 7");
    assert_eq!(result, ExecResult { end: ExecEnd::Code(7), output: "out\nerr\n".into(), truncated: false });
    assert_eq!(shell(&lab, &id, "kill -9 $$").end, ExecEnd::Signal(9));
    let mut long = program(&["sh", "-c", "yes | head -c 1000000"]);
    long.output_limit = 10;
    let result = lab.runtime().exec(&id, &long).unwrap();
    assert_eq!(
        result,
        ExecResult { end: ExecEnd::Code(0), output: "y\ny\ny\ny\ny\n".into(), truncated: true }
    );
    // One that leaves something running with its output is over when it is over itself.
    assert_eq!(shell(&lab, &id, "sleep 1000 & echo left").output, "left\n");
    let (kind, why) = failure(&lab, &id, &program(&["/bin/nothing"]));
    assert_eq!(kind, FailureKind::ProgramNotFound, "{why}");
    let mut nobody = program(&["true"]);
    nobody.user = Some(User { user: "nobody".into(), ..User::default() });
    assert_eq!(failure(&lab, &id, &nobody).0, FailureKind::UnknownUser);
    assert!(matches!(lab.runtime().exec(&id, &program(&[])), Err(RuntimeError::InvalidSpec { .. })));
    let waiting = unique("exec");
    lab.runtime().create(&waiting, &lab.spec(&["true"])).unwrap();
    assert!(matches!(
        lab.runtime().exec(&waiting, &program(&["true"])),
        Err(RuntimeError::WrongState { .. })
    ));
}

#[test]
fn time_limits_hold_for_all_of_the_group() {
    let Some(lab) = Lab::new() else { return };
    let id = running(&lab, &lab.spec(&["sleep", "1000"]));
    let mut slow = program(&["sh", "-c", "trap '' TERM; echo begun; sleep 1234 & sleep 1234"]);
    slow.timeout = Duration::from_secs(2);
    let begun = Instant::now();
    let result = lab.runtime().exec(&id, &slow).unwrap();
    assert_eq!(result, ExecResult { end: ExecEnd::TimedOut, output: "begun\n".into(), truncated: false });
    assert!(begun.elapsed() >= slow.timeout);
    eventually("all are killed", || !shell(&lab, &id, "ps -o args").output.contains("sleep 1234"));
}

/// As of a server of files that is gone: looking the program up never comes to an end.
#[test]
fn time_limits_hold_for_programs_on_file_systems_that_hang() {
    let Some(lab) = Lab::new() else { return };
    fs::create_dir(lab.host("volume")).unwrap();
    let Some(hung) = Dead::mount(lab.host("volume/hung")) else { return };
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.mounts = vec![Mount::Bind {
        source: lab.host("volume"),
        target: "/volume".into(),
        read_only: false,
        recursive: true,
        options: BindOptions::default(),
    }];
    let id = unique("exec");
    let mut program = program(&["/volume/hung/program"]);
    program.timeout = Duration::from_secs(1);
    let result = lab.runtime().run(&id, &spec).and_then(|_| lab.runtime().exec(&id, &program));
    drop(hung);
    assert_eq!(result.unwrap().end, ExecEnd::TimedOut);
}

/// Everything that /proc says of a process, the same for the container's own and the one beside it.
#[test]
fn restrictions_are_the_container_s() {
    let Some(lab) = Lab::new() else { return };
    let show = "id; ulimit -n; pwd; cat /proc/self/cgroup; cat /proc/self/oom_score_adj; echo $GREETING $HOME; hostname; \
        for n in mnt uts ipc net pid cgroup user; do readlink /proc/self/ns/$n; done; \
        grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status";
    for (user, privileges) in [("", true), ("web", false)] {
        let mut spec = lab.shell(&format!("{show}; echo done; sleep 1000"));
        spec.user = User { user: user.into(), additional_groups: vec!["extra".into()], ..User::default() };
        spec.cwd = "/var".into();
        spec.env = vec!["GREETING=hello".into()];
        spec.no_new_privileges = !privileges;
        spec.seccomp = if privileges { Seccomp::Unconfined } else { Seccomp::Default };
        spec.capabilities = Capabilities::container_default().without(["KILL"]).unwrap();
        spec.resource_limits = vec![ResourceLimit { name: "nofile".into(), soft: 77, hard: 78 }];
        let id = running(&lab, &spec);
        eventually("it has shown all", || lab.output(&id).0.ends_with("done\n"));
        let own = lab.output(&id).0.replace("done\n", "");
        let beside = shell(&lab, &id, show);
        assert_eq!(beside.output, own, "{user}");
        assert!(own.contains("hello"), "{own}");
    }
}

#[test]
fn own_wishes_are_heard() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.env = vec!["A=1".into(), "B=2".into()];
    let id = running(&lab, &spec);
    let mut wishes = program(&["sh", "-c", "id -u; pwd; echo $A $B"]);
    wishes.user = Some(User { user: "web".into(), ..User::default() });
    wishes.cwd = Some("/home".into());
    wishes.env = vec!["B=3".into()];
    assert_eq!(lab.runtime().exec(&id, &wishes).unwrap().output, "33\n/home\n1 3\n");
}

/// A container that changed everything it can find to its taste gets nothing of the host's.
#[test]
fn nothing_of_the_host_comes_along() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("sleep 1000");
    spec.capabilities = Capabilities::available();
    let id = running(&lab, &spec);
    let result = shell(
        &lab,
        &id,
        "ls -l /proc/self/fd | tail -n +2; readlink /proc/self/exe; ls -d /proc/[0-9]* | wc -l",
    );
    let lines: Vec<&str> = result.output.lines().collect();
    // The three streams and the directory that is being read.
    let descriptors = lines.iter().filter(|line| line.contains("->")).count();
    assert!(descriptors <= 4, "{}", result.output);
    assert!(result.output.contains("/bin/busybox") && !result.output.contains("memfd"), "{}", result.output);
    // Process 1, the shell and its two children of the pipe: nobody of the host, no helper.
    assert!(lines.last().unwrap().trim().parse::<u32>().unwrap() <= 5, "{}", result.output);
    // The working directory may not lead out (CVE-2024-21626).
    let mut out = program(&["pwd"]);
    for path in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/root", "/proc/self/cwd"] {
        out.cwd = Some(path.into());
        assert!(lab.runtime().exec(&id, &out).is_err(), "{path}");
    }
    // A link that leads out of the root ends inside of it.
    shell(&lab, &id, "ln -s ../../../../../../etc /climb");
    out.cwd = Some("/climb".into());
    assert_eq!(lab.runtime().exec(&id, &out).unwrap().output, "/etc\n");
    // The null device is the container's own, or none.
    let mode = fs::metadata("/dev/null").unwrap();
    shell(&lab, &id, "chmod 0600 /proc/self/fd/0");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata("/dev/null").unwrap().permissions()),
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions())
    );
    shell(&lab, &id, "rm /dev/null; echo mine > /dev/null; chmod 666 /dev/null");
    let (_, why) = failure(&lab, &id, &program(&["true"]));
    assert!(why.contains("/dev/null"), "{why}");
}

/// The memory and the processes of such a program are the container's.
#[test]
fn it_counts_for_the_container() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.resources.pids = Some(8);
    spec.resources.memory_bytes = Some(16 << 20);
    let id = running(&lab, &spec);
    let result = shell(&lab, &id, "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done");
    assert_ne!(result.end, ExecEnd::Code(0), "{result:?}");
    assert!(lab.runtime().stats(&id).unwrap().pids <= 8);
    let result = lab.runtime().exec(&id, &program(&["sh", "-c", "killall -9 sleep"]));
    drop(result);
}

#[test]
fn the_container_s_end_is_its_end() {
    let Some(lab) = Lab::new() else { return };
    let id = running(&lab, &lab.spec(&["sleep", "1000"]));
    std::thread::scope(|scope| {
        let result = scope.spawn(|| shell(&lab, &id, "echo there > /begun; sleep 1000"));
        eventually("it runs", || shell(&lab, &id, "cat /begun").output == "there\n");
        lab.runtime().kill(&id).unwrap();
        assert_eq!(result.join().unwrap().end, ExecEnd::Signal(9));
    });
    lab.finished(&id);
}

/// A helper that is killed costs its program, and neither the container nor its end.
#[test]
fn helpers_may_be_killed() {
    let Some(lab) = Lab::new() else { return };
    let id = running(&lab, &lab.spec(&["sleep", "1000"]));
    std::thread::scope(|scope| {
        let result = scope.spawn(|| lab.runtime().exec(&id, &program(&["sleep", "4321"])));
        let helper = || helper_of(lab.pid(&id), "4321");
        eventually("it runs", || helper().is_some());
        let helper = rustix::process::Pid::from_raw(helper().unwrap()).unwrap();
        rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(result.join().unwrap(), Err(RuntimeError::Supervisor { .. })));
    });
    eventually("its program is gone", || !shell(&lab, &id, "ps -o args").output.contains("sleep 4321"));
    lab.runtime().kill(&id).unwrap();
    lab.finished(&id);
}

/// Parent of the process with this argument among the descendants of init's parent.
fn helper_of(init: i32, argument: &str) -> Option<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let supervisor = parent(init)?;
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == argument)
    })
    .filter_map(parent)
    .find(|helper| parent(*helper) == Some(supervisor))
}

/// Nothing is left of many of them, and they do not get into each other's way.
#[test]
fn many_at_once() {
    let Some(lab) = Lab::new() else { return };
    let id = running(&lab, &lab.spec(&["sleep", "1000"]));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (lab, id) = (&lab, &id);
            scope.spawn(move || {
                for turn in 0..4 {
                    let text = format!("{thread}-{turn}");
                    assert_eq!(shell(lab, id, &format!("echo {text}")).output, format!("{text}\n"));
                }
            });
        }
    });
    eventually("only the container's own is left", || lab.runtime().stats(&id).unwrap().pids == 1);
}
