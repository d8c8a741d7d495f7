//! What a container may be given beyond the ordinary, or be refused. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::{
    BindOptions, Capabilities, ContainerSpec, Device, ExecEnd, ExecSpec, LogConfig, Mount, Network,
    Propagation, Resources, RuntimeError, Seccomp, SelinuxLabels,
};
use std::fs;
use std::path::Path;
use support::{Lab, PATIENCE, eventually, unique};

/// The reason for which a container is not made. It must be one that rejects the task.
fn refusal(lab: &Lab, spec: &ContainerSpec) -> String {
    let error = lab.runtime().run(&unique("refused"), spec).unwrap_err();
    assert!(error.is_rejection(), "{error:?}");
    error.to_string()
}

fn device(host: &str, container: &str, permissions: &str) -> Device {
    Device { host: host.into(), container: container.into(), permissions: permissions.into() }
}

#[test]
fn terminals() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell(
        "test -t 0 && test -t 1 && test -t 2 && echo terminal; tty; echo error >&2; echo x > /dev/tty",
    );
    spec.terminal = true;
    for (init, user) in [(false, ""), (true, ""), (false, "web")] {
        spec.init = init;
        spec.user.user = user.into();
        let finished = lab.finish(&spec);
        assert_eq!(finished.stdout, "terminal\r\n/dev/pts/0\r\nerror\r\nx\r\n", "{init} {user}");
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""));
    }
    // Output of a program that waits for its start, and one beside it, which has no terminal.
    let id = unique("tty");
    spec.args = vec!["sh".into(), "-c".into(), "echo begun; sleep 1000".into()];
    lab.runtime().create(&id, &spec).unwrap();
    lab.runtime().start(&id).unwrap();
    eventually("it writes", || lab.output(&id).0 == "begun\r\n");
    let beside = ExecSpec::new(vec!["tty".into()], PATIENCE);
    assert_eq!(lab.runtime().exec(&id, &beside).unwrap().end, ExecEnd::Code(1));
}

#[test]
fn devices() {
    let Some(lab) = Lab::new() else { return };
    let script = "cat /dev/own/zero | head -c 2 | wc -c; echo x > /dev/own/zero || echo refused; stat -c '%t:%T %a' /dev/own/zero; \
        test -e /dev/kmsg || echo hidden; mknod /dev/other c 1 1 || echo refused";
    let mut spec = lab.shell(script);
    // Memory is a device that no container has of its own; where it cannot be opened the kernel's zero stands in.
    spec.devices = vec![device("/dev/zero", "/dev/own/zero", "rwm")];
    let mode = fs::metadata("/dev/zero").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777;
    assert_eq!(lab.stdout(&spec), format!("2\n1:5 {mode:o}\nhidden\nrefused\n"));
    // Of a device that is not among the usual ones, only what was asked for is possible.
    if Path::new("/dev/kmsg").exists() {
        let script = "(: < /dev/log-of-kernel) && echo read; (: >> /dev/log-of-kernel) && echo written; true";
        let mut spec = lab.shell(script);
        for (permissions, expected) in [("r", "read\n"), ("w", "written\n"), ("rw", "read\nwritten\n")] {
            spec.devices = vec![device("/dev/kmsg", "/dev/log-of-kernel", permissions)];
            spec.capabilities = Capabilities::available();
            assert_eq!(lab.stdout(&spec), expected, "{permissions}");
        }
    }
    for (wanted, why) in [
        (device("/dev/nothing-here", "/dev/x", "rw"), "\"/dev/nothing-here\""),
        (device("/etc/passwd", "/dev/x", "rw"), "no device"),
        (device("/dev/zero", "/dev/../x", "rw"), "'..'"),
        (device("/dev/zero", "/proc/x", "rw"), "/proc"),
        (device("/dev/zero", "/dev/x", "rx"), "letters"),
        (device("/dev/zero", "/etc/passwd", "rw"), "another file"),
    ] {
        spec.devices = vec![wanted];
        let error = refusal(&lab, &spec);
        assert!(error.contains(why), "{error}");
    }
    spec.devices.clear();
    spec.cdi_devices = vec!["coracle.example/none=1".into()];
    assert!(refusal(&lab, &spec).contains("coracle.example/none=1"));
}

#[test]
fn privileged() {
    let Some(lab) = Lab::new() else { return };
    let script = "mount -t tmpfs none /tmp && echo mounted; test -w /proc/sys/kernel/hostname && echo writable; \
        head -c 1 /proc/interrupts | wc -c; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; \
        grep ' /sys sysfs rw' /proc/mounts | wc -l; grep -c ' /sys/fs/cgroup/memory cgroup rw\\| /sys/fs/cgroup cgroup2 rw' /proc/mounts";
    let mut spec = lab.shell(script);
    spec.privileged = true;
    spec.capabilities = Capabilities::available();
    spec.seccomp = Seccomp::Unconfined;
    spec.no_new_privileges = false;
    assert_eq!(lab.stdout(&spec), "mounted\nwritable\n1\nNoNewPrivs:\t0\nSeccomp:\t0\n1\n1\n");
    let devices = |spec: &ContainerSpec| lab.stdout(spec);
    spec.args = vec![
        "sh".into(),
        "-c".into(),
        "find /dev -type b -o -type c | wc -l; mknod /dev/any b 7 77 && echo made".into(),
    ];
    let all: Vec<String> = devices(&spec).lines().map(str::to_owned).collect();
    assert!(all[0].parse::<u32>().unwrap() >= 6 && all[1] == "made", "{all:?}");
}

#[test]
fn capabilities_that_the_daemon_lacks() {
    let Some(lab) = Lab::new() else { return };
    let all = Capabilities::none().with(["ALL"]).unwrap();
    let mut spec = lab.spec(&["true"]);
    spec.capabilities = all;
    if all == Capabilities::available() {
        assert_eq!(lab.finish(&spec).code(), 0);
    } else {
        assert!(refusal(&lab, &spec).contains(&all.missing_from(Capabilities::available()).to_string()));
    }
}

#[test]
fn system_call_profiles() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("mkdir /tmp/x || echo refused; chmod 700 /tmp && echo changed");
    spec.seccomp = Seccomp::Custom(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#
            .into(),
    );
    let finished = lab.finish(&spec);
    assert_eq!(finished.stdout, "refused\nchanged\n");
    assert!(finished.stderr.contains("Permission denied"), "{}", finished.stderr);
    spec.seccomp = Seccomp::Custom("{}".into());
    assert!(refusal(&lab, &spec).contains("defaultAction"));
    if !Path::new("/sys/module/apparmor").exists() {
        spec.seccomp = Seccomp::Default;
        spec.apparmor = Some("mine".into());
        assert!(refusal(&lab, &spec).contains("\"mine\""));
        spec.apparmor = Some("unconfined".into());
        spec.args = vec!["true".into()];
        assert_eq!(lab.finish(&spec).code(), 0);
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let mut spec = lab.spec(&["true"]);
        let label = |kind: &str| format!("system_u:{kind}:s0");
        let (process, mount) = (label("system_r:container_t"), label("object_r:container_file_t"));
        spec.selinux = Some(SelinuxLabels { process: process.clone(), mount });
        let why = refusal(&lab, &spec);
        assert!(why.contains(&process) && why.contains("SELinux is not active on this node"), "{why}");
    }
}

#[test]
fn namespaces_of_the_host() {
    let Some(lab) = Lab::new() else { return };
    let script = "for n in pid ipc uts; do readlink /proc/self/ns/$n; done; hostname; stat -c %d /dev/shm";
    let mut spec = lab.shell(script);
    spec.host_namespaces.pid = true;
    spec.host_namespaces.ipc = true;
    spec.host_namespaces.uts = true;
    let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let shm = std::os::unix::fs::MetadataExt::dev(&fs::metadata("/dev/shm").unwrap());
    let expected = format!("{}\n{}\n{}\n{name}{shm}\n", link("pid"), link("ipc"), link("uts"));
    assert_eq!(lab.stdout(&spec), expected);
    // What would change the host is refused.
    spec.hostname = Some("box".into());
    assert!(refusal(&lab, &spec).contains("\"box\""));
    spec.hostname = None;
    spec.sysctls.insert("kernel.shmmax".into(), "1".into());
    assert!(refusal(&lab, &spec).contains("kernel.shmmax"));
    spec.sysctls.clear();
    spec.shm_size = Some(1 << 20);
    assert!(refusal(&lab, &spec).contains("1048576"));
}

/// Where the pid namespace is the host's, the end of the first process must be the end of all.
#[test]
fn nothing_outlives_a_container_among_the_host_s_processes() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("setsid sleep 98765 & (sleep 98765 & ) ; sleep 0.2; exit 3");
    spec.host_namespaces.pid = true;
    let id = unique("pid");
    lab.runtime().run(&id, &spec).unwrap();
    assert_eq!(lab.finished(&id).code(), 3);
    let left = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            line.split('\0').any(|word| word == "98765")
        })
    };
    assert!(!left());
    // One that has moved into a cgroup of its own is still the container's.
    spec.privileged = true;
    spec.args[2] = "setsid sh -c 'for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
        test -w $root/cgroup.procs && mkdir -p $root/own && echo $$ > $root/own/cgroup.procs
        done; touch /tmp/moved; exec sleep 98765' &
        while ! test -e /tmp/moved; do sleep 0.05; done; exit 3"
        .into();
    let id = unique("pid");
    lab.runtime().run(&id, &spec).unwrap();
    assert_eq!(lab.finished(&id).code(), 3);
    assert!(!left());
    let id = unique("pid");
    lab.runtime().run(&id, &lab.spec(&["sleep", "98764"])).unwrap();
    lab.runtime().kill(&id).unwrap();
    lab.finished(&id);
}

#[test]
fn numbers() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell(
        "df -k /dev/shm | tail -1 | awk '{print $2}'; cat /proc/self/oom_score_adj; \
         grep Cpus_allowed_list /proc/self/status | awk '{print $2}'; nproc",
    );
    spec.shm_size = Some(1 << 20);
    spec.oom_score_adj = 500;
    spec.resources = Resources { cpuset: Some("0".into()), ..Resources::default() };
    assert_eq!(lab.stdout(&spec), "1024\n500\n0\n1\n");
    let beside_id = unique("numbers");
    spec.args = vec!["sleep".into(), "1000".into()];
    lab.runtime().run(&beside_id, &spec).unwrap();
    let words = "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status".split("--");
    let script = words.collect::<String>();
    let beside = ExecSpec::new(vec!["sh".into(), "-c".into(), script], PATIENCE);
    assert_eq!(lab.runtime().exec(&beside_id, &beside).unwrap().output, "500\nCpus_allowed_list:\t0\n");
    lab.runtime().delete(&beside_id).unwrap();
    spec.resources.cpuset = Some("4000".into());
    let error = refusal(&lab, &spec);
    assert!(error.contains("limits.cpuset") && error.contains("\"4000\""), "{error}");
    spec.resources.cpuset = None;
    if Capabilities::available().missing_from(Capabilities::none().with(["SYS_RESOURCE"]).unwrap())
        == Capabilities::available()
    {
        spec.oom_score_adj = -500;
        let error = refusal(&lab, &spec);
        assert!(error.contains("oom-score-adj -500"), "{error}");
    }
    spec.oom_score_adj = 2000;
    assert!(refusal(&lab, &spec).contains("\"2000\""));
}

#[test]
fn swap() {
    let Some(lab) = Lab::new() else { return };
    if !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        return swap_of_version_2(&lab);
    }
    let script = "cd /sys/fs/cgroup/memory; cat memory.swappiness; test -e memory.memsw.limit_in_bytes && cat memory.memsw.limit_in_bytes";
    let mut spec = lab.shell(script);
    spec.resources.memory_bytes = Some(32 << 20);
    spec.resources.swappiness = Some(17);
    let accounted = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    spec.resources.memory_swap = Some(48 << 20);
    if accounted {
        assert_eq!(lab.stdout(&spec), format!("17\n{}\n", 48 << 20));
        spec.resources.memory_swap = Some(u64::MAX);
        let output = lab.stdout(&spec);
        assert!(output.lines().nth(1).unwrap().parse::<u64>().unwrap() > 1 << 60, "{output}");
    } else {
        assert!(refusal(&lab, &spec).contains("limits.swap"));
        spec.resources.memory_swap = None;
        assert_eq!(lab.finish(&spec).stdout, "17\n");
    }
}

fn swap_of_version_2(lab: &Lab) {
    let mut spec = lab.shell("cd /sys/fs/cgroup; cat memory.max memory.swap.max");
    spec.resources.memory_bytes = Some(32 << 20);
    for (wished, swap) in [(Some(48 << 20), (16 << 20).to_string()), (Some(u64::MAX), "max".to_owned())] {
        spec.resources.memory_swap = wished;
        assert_eq!(lab.stdout(&spec), format!("{}\n{swap}\n", 32 << 20));
    }
    spec.resources.swappiness = Some(17);
    let error = refusal(lab, &spec);
    assert!(error.contains("swappiness") && error.contains("17"), "{error}");
}

fn bind(source: &Path, options: BindOptions, read_only: bool, recursive: bool) -> Mount {
    Mount::Bind { source: source.to_owned(), target: "/bound".into(), read_only, recursive, options }
}

/// A shared tmpfs of the host with one below it, removed with all that is mounted there.
struct Tree(std::path::PathBuf);

impl Tree {
    fn new(lab: &Lab) -> Self {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        let place = lab.host("tree");
        fs::create_dir(&place).unwrap();
        let tmpfs = |place: &Path| mount("none", place, "tmpfs", MountFlags::empty(), None).unwrap();
        tmpfs(&place);
        mount_change(&place, MountPropagationFlags::SHARED).unwrap();
        for below in ["below", "later"] {
            fs::create_dir(place.join(below)).unwrap();
        }
        tmpfs(&place.join("below"));
        fs::write(place.join("below/file"), "x").unwrap();
        Self(place)
    }

    fn mount_later(&self) {
        let place = self.0.join("later");
        rustix::mount::mount("none", &place, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::write(place.join("file"), "x").unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for name in ["later", "below", "made", ""] {
            let _ = rustix::mount::unmount(self.0.join(name), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

#[test]
fn binds() {
    let Some(lab) = Lab::new() else { return };
    let tree = Tree::new(&lab);
    let script = "ls /bound/below; touch /bound/new && echo top; touch /bound/below/new && echo below; rm -f /bound/new /bound/below/new; true";
    let with = |options: BindOptions, read_only, recursive| {
        let mut spec = lab.shell(script);
        spec.mounts = vec![bind(&tree.0, options, read_only, recursive)];
        lab.stdout(&spec)
    };
    let plain = BindOptions::default();
    assert_eq!(with(plain.clone(), false, true), "file\ntop\nbelow\n");
    assert_eq!(with(plain.clone(), true, true), "file\n");
    assert_eq!(with(BindOptions { writable_below: true, ..plain.clone() }, true, true), "file\nbelow\n");
    assert_eq!(with(plain.clone(), false, false), "top\nbelow\n");
    // A source that is made, and one that is not.
    let made = lab.host("made/deep");
    let mut spec = lab.shell("ls /bound");
    spec.mounts = vec![bind(&made, plain.clone(), false, true)];
    assert!(refusal(&lab, &spec).contains("made/deep"));
    spec.mounts = vec![bind(&made, BindOptions { create_source: true, ..plain }, false, true)];
    assert_eq!(lab.stdout(&spec), "");
    assert!(made.is_dir());
}

#[test]
fn propagation() {
    let Some(lab) = Lab::new() else { return };
    for (propagation, seen) in
        [(Propagation::Private, ""), (Propagation::Slave, "file\n"), (Propagation::Shared, "file\n")]
    {
        let tree = Tree::new(&lab);
        let id = unique("bind");
        let mut spec = lab.spec(&["sleep", "1000"]);
        spec.capabilities = Capabilities::available();
        spec.seccomp = Seccomp::Unconfined;
        let bound = bind(&tree.0, BindOptions { propagation, ..BindOptions::default() }, false, true);
        // Of the same source, and made first.
        let aside = Mount::Bind {
            source: tree.0.clone(),
            target: "/aside".into(),
            read_only: false,
            recursive: true,
            options: BindOptions::default(),
        };
        spec.mounts = vec![bound, aside];
        lab.runtime().run(&id, &spec).unwrap();
        tree.mount_later();
        let run = |script: &str| {
            let spec = ExecSpec::new(vec!["sh".into(), "-c".into(), script.into()], PATIENCE);
            lab.runtime().exec(&id, &spec).unwrap().output
        };
        assert_eq!(run("ls /bound/later"), seen, "{propagation:?}");
        assert_eq!(run("ls /aside/later"), "", "{propagation:?}");
        run("mkdir /bound/made; mount -t tmpfs none /bound/made; touch /bound/made/inside");
        let is_seen = tree.0.join("made/inside").exists();
        assert_eq!(is_seen, propagation == Propagation::Shared, "{propagation:?}");
        lab.runtime().delete(&id).unwrap();
        drop(tree);
        fs::remove_dir(lab.host("tree")).unwrap();
    }
    // The temporary directory itself is not shared where nobody made it so.
    let plain = lab.host("plain");
    fs::create_dir(&plain).unwrap();
    rustix::mount::mount("none", &plain, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&plain, rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
    let mut spec = lab.spec(&["true"]);
    let options = BindOptions { propagation: Propagation::Shared, ..BindOptions::default() };
    spec.mounts = vec![bind(&plain, options, false, true)];
    let error = lab.runtime().run(&unique("refused"), &spec).unwrap_err();
    rustix::mount::unmount(&plain, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(error.is_rejection() && error.to_string().contains("not shared"), "{error}");
}

#[test]
fn logs_may_be_dropped() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("yes | head -c 3000000; echo done > /tmp/done; cat /tmp/done >&2");
    spec.log = LogConfig { directory: Some(lab.host("logs")), discard: true, ..LogConfig::default() };
    let finished = lab.finish(&spec);
    assert_eq!((finished.code(), finished.stdout.len(), finished.stderr.len()), (0, 0, 0));
    assert_eq!(fs::read_dir(lab.host("logs")).unwrap().count(), 0);
}

#[test]
fn limits_above_the_host_s_are_refused_by_name() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.spec(&["true"]);
    spec.network = Network::Host;
    spec.sysctls.insert("net.core.somaxconn".into(), "7".into());
    assert!(refusal(&lab, &spec).contains("net.core.somaxconn"));
    spec.sysctls.clear();
    spec.resource_limits =
        vec![coracle_agent_runtime::ResourceLimit { name: "nofile".into(), soft: 1 << 40, hard: 1 << 40 }];
    match lab.runtime().run(&unique("limit"), &spec) {
        Err(error @ RuntimeError::Setup { .. }) => {
            assert!(error.is_rejection() && error.to_string().contains("hard limit"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
