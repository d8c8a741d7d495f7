//! Devices of CDI files that need programs of the host run. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::{ContainerSpec, RuntimeError};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use support::dead::Dead;
use support::{Lab, eventually, unique};

/// A container with a device whose hooks are shell scripts on the host: when, what, and the seconds that it may take.
fn with_hooks(lab: &Lab, script: &str, hooks: &[(&str, &str, u32)]) -> ContainerSpec {
    let hooks: Vec<serde_json::Value> = hooks
        .iter()
        .map(|(when, script, seconds)| {
            serde_json::json!({
                "hookName": when, "path": "/bin/busybox", "args": ["sh", "-c", script],
                "env": [format!("OUT={}", lab.directory.path().display())], "timeout": seconds,
            })
        })
        .collect();
    let file = serde_json::json!({
        "cdiVersion": "0.6.0", "kind": "coracle.example/card",
        "devices": [{ "name": "0", "containerEdits": {} }], "containerEdits": { "hooks": hooks },
    });
    write_file(lab, &file);
    let mut spec = lab.shell(script);
    spec.cdi_devices = vec!["coracle.example/card=0".into()];
    spec
}

fn write_file(lab: &Lab, file: &serde_json::Value) {
    let folder = lab.host("cdi");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("card.json"), file.to_string()).unwrap();
}

/// Why the container is not made. Nothing of it is left, and trying again may help.
fn failure(lab: &Lab, spec: &ContainerSpec) -> String {
    let error = lab.runtime().run(&unique("hook"), spec).unwrap_err();
    assert!(!error.is_rejection(), "{error:?}");
    assert!(matches!(error, RuntimeError::Setup { .. }), "{error:?}");
    assert!(lab.runtime().list().is_empty());
    assert_eq!(fs::read_dir(&lab.config.state_dir).unwrap().count(), 0, "nothing is left");
    error.to_string()
}

/// Living processes that a hook of this lab has begun: nobody else has its variable.
fn left_by_hooks(lab: &Lab) -> Vec<i32> {
    let variable = format!("OUT={}", lab.directory.path().display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let of_hook = |entry: &fs::DirEntry| {
        let variables = fs::read(entry.path().join("environ")).unwrap_or_default();
        variables.split(|&byte| byte == 0).any(|known| known == variable.as_bytes())
    };
    processes.filter(of_hook).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Sets `pid` from what a hook is told.
const PROCESS: &str = "pid=$(sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p')";

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the hooks of NVIDIA's files do: find the root, make links in it and mount over parts of it.
const NAMED: &str = "root=$(busybox sed -n 's/.*\"path\":\"\\([^\"]*\\)\".*/\\1/p' config.json)";

#[test]
fn hooks_change_the_container_before_its_program_runs() {
    let Some(lab) = Lab::new() else { return };
    let in_container = format!(
        "cat > $OUT/told; pwd > $OUT/cwd; readlink /proc/self/ns/mnt > $OUT/mnt; readlink /proc/self/ns/uts > $OUT/uts; \
         env > $OUT/env; umask > $OUT/umask; {NAMED}; \
         ln -s /etc/passwd $root/made-link && mkdir -p $root/srv && mount -t tmpfs hooked $root/srv && echo inside > $root/srv/file"
    )
    .replace("busybox sed", "sed");
    let on_host =
        "readlink /proc/self/ns/mnt > $OUT/host-mnt; pwd > $OUT/host-cwd; cat > $OUT/host-told; sleep 0.2";
    // The order of the file is not the order of the specification.
    let hooks = [("createContainer", in_container.as_str(), 20), ("createRuntime", on_host, 20)];
    let script = "readlink /made-link; cat /srv/file; sleep 1000";
    let mut spec = with_hooks(&lab, script, &hooks);
    spec.read_only_rootfs = true;
    spec.env = vec!["SECRET=1".into()];
    let id = unique("hook");
    lab.runtime().run(&id, &spec).unwrap();
    eventually("it writes", || lab.output(&id).0 == "/etc/passwd\ninside\n");

    let pid = lab.pid(&id);
    let read = |name: &str| fs::read_to_string(lab.host(name)).unwrap().trim().to_owned();
    let link = |process: &str, kind: &str| {
        fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap().display().to_string()
    };
    assert_eq!((read("mnt"), read("uts")), (link(&pid.to_string(), "mnt"), link(&pid.to_string(), "uts")));
    assert_eq!(read("host-mnt"), link("self", "mnt"));
    let root = lab.config.state_dir.join(id.as_str()).join("rootfs");
    // Only the container's mount namespace has something there, so those of the host are shown the way into it.
    let way = format!("/proc/{pid}/root{}", root.display());
    for (told, folder, root) in
        [("told", "cwd", root.to_str().unwrap()), ("host-told", "host-cwd", way.as_str())]
    {
        let state = json(&lab.host(told));
        assert_eq!(state["pid"], pid);
        assert_eq!(state["id"], id.as_str());
        assert_eq!(state["status"], "creating");
        assert_eq!(state["root"], root);
        assert_eq!(state["bundle"], read(folder));
        let configuration = json(&Path::new(&read(folder)).join("config.json"));
        assert_eq!(configuration["root"]["path"], root);
        assert_eq!(configuration["root"]["readonly"], true);
    }
    let environment = read("env");
    assert!(environment.contains("OUT=") && !environment.contains("SECRET"), "{environment}");
    assert!(!environment.contains("HOSTNAME="), "{environment}");
    assert_eq!(read("umask"), "0022");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("hooked"), "the host has no part in it");
    lab.runtime().delete(&id).unwrap();
}

#[test]
fn a_container_whose_hook_fails_is_not_made() {
    let Some(lab) = Lab::new() else { return };
    for when in ["prestart", "createRuntime", "createContainer"] {
        let spec = with_hooks(&lab, "true", &[(when, "echo one; echo no such card >&2; exit 3", 20)]);
        let error = failure(&lab, &spec);
        let words = "running the hook /bin/busybox of coracle.example/card=0: it ended with exit code 3 and said: one no such card";
        assert!(error.contains(words), "{when}: {error}");
        // One that never ends, writes all the time and has a child: none of it is left.
        let script =
            "echo $$ > $OUT/own; sleep 1000 & readlink /proc/self > $OUT/pid; while :; do echo x; done";
        let error = failure(&lab, &with_hooks(&lab, "true", &[(when, script, 1)]));
        assert!(error.contains("it did not end within 1s and said: x x"), "{when}: {error}");
        assert_eq!(left_by_hooks(&lab), [0; 0], "{when}");
        let error = failure(&lab, &with_hooks(&lab, "true", &[(when, "kill -15 $$", 20)]));
        assert!(error.contains("it was ended by signal 15"), "{when}: {error}");
    }
    // Two that keep their own limits, and together take too long.
    let mut hurried = Lab::new().unwrap();
    hurried.close();
    hurried.config.setup_timeout = Duration::from_secs(8);
    hurried.reopen();
    let hooks = [("createRuntime", "sleep 1", 20), ("createContainer", "echo begun; sleep 1000; true", 20)];
    let error = failure(&hurried, &with_hooks(&hurried, "true", &hooks));
    let words = "it did not end within the 4s that the hooks of this container have together, counted from the beginning of \
                 setting it up and said: begun";
    assert!(error.contains(words), "{error}");
    // The first that fails is the last that is run.
    let hooks = [("createContainer", "exit 1", 20), ("createContainer", "echo > $OUT/second", 20)];
    failure(&lab, &with_hooks(&lab, "true", &hooks));
    assert!(!lab.host("second").exists());
    let hook = |path: &str| {
        let hook = serde_json::json!({ "hookName": "createContainer", "path": path });
        let edits = serde_json::json!({ "hooks": [hook] });
        let device = serde_json::json!({ "name": "0", "containerEdits": edits });
        write_file(
            &lab,
            &serde_json::json!({ "cdiVersion": "0.6.0", "kind": "coracle.example/card", "devices": [device] }),
        );
        failure(&lab, &{
            let mut spec = lab.shell("true");
            spec.cdi_devices = vec!["coracle.example/card=0".into()];
            spec
        })
    };
    let error = hook("/usr/bin/coracle-no-such-hook");
    let words = "said: execve(\"/usr/bin/coracle-no-such-hook\")=ENOENT: this node has no such program";
    assert!(error.contains(words), "{error}");
    let error = hook("/etc/passwd");
    assert!(error.contains("said: execve(\"/etc/passwd\")=EACCES: it is no file, or may not"), "{error}");
    fs::write(lab.host("foreign"), "\u{7f}ELF").unwrap();
    fs::set_permissions(lab.host("foreign"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = hook(lab.host("foreign").to_str().unwrap());
    assert!(error.contains("=ENOEXEC: it is of another architecture"), "{error}");
    fs::write(lab.host("script"), "#!/usr/bin/coracle-no-such-shell\n").unwrap();
    fs::set_permissions(lab.host("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = hook(lab.host("script").to_str().unwrap());
    assert!(error.contains("=ENOENT: this node has no such program, or not the interpreter"), "{error}");
}

#[test]
fn what_a_hook_leaves_running_ends_with_it() {
    let Some(lab) = Lab::new() else { return };
    let beside = "sleep 1000 &";
    let apart = "setsid sleep 1000 & setsid sh -c 'setsid sleep 1000 & sleep 1000' &";
    let mut cases = Vec::new();
    for when in ["createRuntime", "createContainer"] {
        cases.extend([beside, apart].map(|left| (when, left.to_owned(), false)));
        cases.push((when, apart.to_owned(), true));
    }
    // One of the host that leaves something in the container.
    cases.push(("createRuntime", format!("{PROCESS}; nsenter -t $pid -m -u -i -p sh -c \"{apart}\""), false));
    for (when, left, host_processes) in cases {
        let with = |script: &str| {
            let mut spec = with_hooks(&lab, "sleep 1000", &[(when, script, 20)]);
            spec.host_namespaces.pid = host_processes;
            spec
        };
        let error = failure(&lab, &with(&format!("{left}\nexit 3")));
        assert!(error.contains("it ended with exit code 3"), "{when} {left}: {error}");
        assert_eq!(left_by_hooks(&lab), [0; 0], "{when} {left}");
        let id = unique("hook");
        lab.runtime().run(&id, &with(&left)).unwrap();
        assert_eq!(left_by_hooks(&lab), [0; 0], "{when} {left}");
        lab.runtime().kill(&id).unwrap();
        lab.finished(&id);
        lab.runtime().delete(&id).unwrap();
    }
}

/// What is a child of the supervisor and in the container's process namespace keeps that from ending until it is reaped.
#[test]
fn hooks_that_enter_the_container_keep_it_from_nothing() {
    let Some(lab) = Lab::new() else { return };
    let hangs = format!("{PROCESS}; nsenter -t $pid -m -u -i -p sleep 1000; true");
    let error = failure(&lab, &with_hooks(&lab, "true", &[("createRuntime", &hangs, 1)]));
    assert!(error.contains("it did not end within 1s"), "{error}");
    let orphan = format!(
        "{PROCESS}; nsenter -t $pid -p sh -c 'echo > $OUT/begun; exec sleep 1000' & own=$!; \
         until [ -e $OUT/begun ]; do sleep 0.01; done; kill -9 $own"
    );
    let spec = with_hooks(&lab, "echo runs", &[("createRuntime", &orphan, 20)]);
    assert_eq!(lab.stdout(&spec), "runs\n");
    assert_eq!(left_by_hooks(&lab), [0; 0]);
}

#[test]
fn a_container_that_is_killed_takes_its_hook_along() {
    let Some(lab) = Lab::new() else { return };
    let hangs = format!(
        "{PROCESS}; setsid sleep 1000 & echo $pid > $OUT/new; mv $OUT/new $OUT/init; sleep 1000; true"
    );
    let spec = with_hooks(&lab, "true", &[("createRuntime", &hangs, 45)]);
    std::thread::scope(|scope| {
        let error = scope.spawn(|| failure(&lab, &spec));
        eventually("the hook runs", || lab.host("init").exists());
        let init = fs::read_to_string(lab.host("init")).unwrap().trim().parse().unwrap();
        let init = rustix::process::Pid::from_raw(init).unwrap();
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
        let error = error.join().unwrap();
        assert!(error.contains("init was killed while it set the container up"), "{error}");
    });
    assert_eq!(left_by_hooks(&lab), [0; 0]);
}

/// As one that asks a device or a server of files that does not answer.
#[test]
fn what_of_a_hook_cannot_be_killed_is_told() {
    let Some(lab) = Lab::new() else { return };
    let itself = "cat > $OUT/told; exec cat $OUT/dead/file";
    let left = "cat > $OUT/told; cat $OUT/dead/file & until [ -e $OUT/taken ]; do sleep 0.01; done";
    for (script, seconds, why) in [
        (
            itself,
            3,
            "it did not end within 3s; it cannot be killed, since it waits for a device or a file system",
        ),
        (left, 30, "cannot be killed, since it waits for a device or a file system"),
    ] {
        let Some(dead) = Dead::mount(lab.host("dead")) else { return };
        dead.greet();
        let spec = with_hooks(&lab, "true", &[("createRuntime", script, seconds)]);
        std::thread::scope(|scope| {
            let error = scope.spawn(|| failure(&lab, &spec));
            dead.take();
            fs::write(lab.host("taken"), "").unwrap();
            let error = error.join().unwrap();
            assert!(error.contains(why), "{error}");
        });
        let stuck = left_by_hooks(&lab);
        assert_eq!(stuck.len(), 1);
        drop(dead);
        let is_there = |process| {
            fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        eventually("it is gone when it may be", || !is_there(stuck[0]));
        fs::remove_dir(lab.host("dead")).unwrap();
        fs::remove_file(lab.host("taken")).unwrap();
    }
}

#[test]
fn hooks_of_the_host_reach_the_files_of_the_container() {
    let Some(lab) = Lab::new() else { return };
    let script = format!(
        "told=$(sed -n 's/.*\"root\":\"\\([^\"]*\\)\".*/\\1/p'); ln -s /etc/passwd $told/made-link || exit 1; \
         {NAMED}; [ $root = $told ] && mkdir $root/made && echo inside > $root/made/file || exit 2; \
         mount -t tmpfs astray $root/made && exit 3; exit 0"
    );
    let spec = with_hooks(&lab, "readlink /made-link; cat /made/file", &[("createRuntime", &script, 20)]);
    assert_eq!(lab.stdout(&spec), "/etc/passwd\ninside\n");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("astray"), "{mounts}");
}

#[test]
fn what_a_hook_leaves_running_holds_nothing_up() {
    let Some(lab) = Lab::new() else { return };
    let spec = with_hooks(&lab, "echo runs", &[("createContainer", "sleep 1000 &", 20)]);
    assert_eq!(lab.stdout(&spec), "runs\n");
    // One that reads nothing, and one that says a lot.
    let spec = with_hooks(
        &lab,
        "echo runs",
        &[("createContainer", "exec 0<&-; seq 1 100000", 20), ("createRuntime", "seq 1 100000", 20)],
    );
    assert_eq!(lab.stdout(&spec), "runs\n");
}
