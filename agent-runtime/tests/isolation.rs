//! What a container can see and do. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, unreachable_pub, reason = "shared between test programs")]
mod support;

use coracle_agent_runtime::{
    BindOptions, Capabilities, ContainerSpec, FailureKind, Mount, Network, ResourceLimit, Resources,
    RuntimeError, Seccomp, User,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Lab, eventually, unique};

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount::Bind {
        source: source.to_owned(),
        target: target.into(),
        read_only,
        recursive: true,
        options: BindOptions::default(),
    }
}

/// Does something only inside a container, from a copy of this test program: prints `name errno` lines.
#[test]
fn probe() {
    if std::env::var_os("CORACLE_TEST_PROBE").is_none() {
        return;
    }
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    let show = |name: &str, result: Result<(), Errno>| {
        println!("{name} {}", result.map_or_else(|error| error.raw_os_error(), |()| 0));
    };
    for (name, family) in [("inet", 2), ("alg", 38), ("vsock", 40), ("rxrpc", 33)] {
        show(name, socket(AddressFamily::from_raw(family), SocketType::DGRAM, None).map(drop));
    }
    let flags = rustix::mount::FsOpenFlags::empty();
    show("fsopen", rustix::mount::fsopen("tmpfs", flags).map(drop));
    show("mount", rustix::mount::mount_bind("/tmp", "/tmp"));
    show("pivot_root", rustix::process::pivot_root("/", "/"));
    show(
        "setns",
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&fs::File::open("/proc/self/ns/net").unwrap()),
            None,
        ),
    );
    show("setpriority", rustix::process::setpriority_process(None, 5));
    // The C library makes threads although clone3 is refused.
    println!("thread {}", std::thread::spawn(|| 7).join().unwrap());
    println!("fds {}", fs::read_dir("/proc/1/fd").unwrap().count());
}

#[test]
fn system_calls() {
    let Some(lab) = Lab::new() else { return };
    fs::copy(std::env::current_exe().unwrap(), lab.layer().join("bin/probe")).unwrap();
    let mut spec = lab.spec(&["probe", "probe", "--exact", "--nocapture", "--test-threads=1"]);
    spec.env.push("CORACLE_TEST_PROBE=1".to_owned());
    let output = lab.stdout(&spec);
    for expected in [
        "inet 0",
        "alg 1",
        "vsock 1",
        "rxrpc 1",
        "fsopen 1",
        "mount 1",
        "pivot_root 1",
        "setns 1",
        "setpriority 0",
        "thread 7",
    ] {
        assert!(output.lines().any(|line| line.ends_with(expected)), "{expected} is not in {output}");
    }
    let script = "unshare -m true && echo unshared; unshare -U true && echo unshared; dmesg && echo dmesg; \
                  chroot / true && echo chroot; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; true";
    assert_eq!(lab.stdout(&lab.shell(script)), "chroot\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let mut spec = lab.shell("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; unshare -m true; echo $?");
    spec.no_new_privileges = false;
    assert_eq!(lab.stdout(&spec), "NoNewPrivs:\t0\nSeccomp:\t2\n1\n");
    spec.seccomp = Seccomp::Unconfined;
    assert_eq!(lab.stdout(&spec), "NoNewPrivs:\t0\nSeccomp:\t0\n1\n");
}

#[test]
fn namespaces_are_new() {
    let Some(lab) = Lab::new() else { return };
    let id = unique("ns");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let pid = lab.pid(&id).to_string();
    for name in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(link(&pid, name), link("self", name), "{name}");
    }
    let mut spec = lab.shell(
        "hostname; echo $$; echo $HOSTNAME $HOME $PATH; ps | wc -l; cat /proc/self/cgroup; cat /proc/keys",
    );
    spec.hostname = Some("box".into());
    let output = lab.stdout(&spec);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[..3],
        ["box", "1", "box /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    );
    let cgroups: Vec<&&str> =
        lines.iter().filter(|line| line.contains("memory:") || line.starts_with("0:")).collect();
    assert!(cgroups.iter().all(|line| line.ends_with(":/")), "{cgroups:?}");
    assert!(!output.contains("coracle-test"), "{output}");
}

#[test]
fn network_kinds() {
    let Some(lab) = Lab::new() else { return };
    let script = "ip -o link | wc -l; ip addr show lo | grep -c 127.0.0.1; cat /etc/hosts | head -1; cat /etc/resolv.conf";
    let mut spec = lab.shell(script);
    spec.files.resolv_conf = Some("nameserver 192.0.2.1\n".into());
    assert_eq!(lab.stdout(&spec), "1\n1\n127.0.0.1\tlocalhost\nnameserver 192.0.2.1\n");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let mut spec = lab.shell("readlink /proc/self/ns/net; cat /etc/hosts");
    spec.network = Network::Host;
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert_eq!(lab.stdout(&spec), format!("{}\n{hosts}", own.display()));
    // Another container's namespace serves as an existing one.
    let id = unique("net");
    lab.runtime().run(&id, &lab.spec(&["sleep", "1000"])).unwrap();
    let path = format!("/proc/{}/ns/net", lab.pid(&id));
    spec = lab.shell("readlink /proc/self/ns/net");
    spec.network = Network::Path(path.clone().into());
    assert_eq!(lab.stdout(&spec).trim(), fs::read_link(&path).unwrap().to_str().unwrap());
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let Some(lab) = Lab::new() else { return };
    let output = lab.stdout(&lab.shell("cat /proc/1/mountinfo"));
    let mut targets = Vec::new();
    for line in output.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        targets.push(fields[4]);
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
        if fields[4].starts_with("/sys") {
            assert!(fields[5].starts_with("ro,"), "{line}");
        }
    }
    assert_eq!(targets[0], "/", "{output}");
    for own in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"] {
        assert!(targets.contains(&own), "{own} in {targets:?}");
    }
    let known = |target: &&str| {
        *target == "/"
            || ["/proc", "/dev", "/sys", "/etc/host", "/etc/resolv.conf"]
                .iter()
                .any(|p| target.starts_with(p))
    };
    assert!(targets.iter().all(known), "{targets:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("rootfs/"), "the container shows on the host");
}

#[test]
fn capabilities_are_exact() {
    let Some(lab) = Lab::new() else { return };
    let masks = |spec: &ContainerSpec| -> Vec<String> {
        lab.stdout(spec).lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    let none = "0000000000000000";
    let default = "00000000a80425fb";
    let mut spec = lab.shell("grep ^Cap /proc/self/status");
    // Inheritable, permitted, effective, bounding, ambient.
    assert_eq!(masks(&spec), [none, default, default, default, none]);
    spec.user.user = "web".into();
    assert_eq!(masks(&spec), [none, none, none, default, none]);
    // No disposition of the supervisor is inherited, and the kernel chooses it for want of memory as
    // readily as others: a lower score would be lifted, a higher one stays where lowering needs a capability.
    let output =
        lab.stdout(&lab.shell("grep -E 'SigBlk|SigIgn' /proc/self/status; cat /proc/self/oom_score_adj"));
    let (signals, score) = output.trim().rsplit_once('\n').unwrap();
    assert_eq!(signals, format!("SigBlk:\t{none}\nSigIgn:\t{none}"));
    let ours: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    assert!((0..=ours.max(0)).contains(&score.parse::<i32>().unwrap()), "{score}");
    spec.user.user = "0".into();
    spec.capabilities = Capabilities::none().with(["CHOWN"]).unwrap();
    assert_eq!(masks(&spec), [none, "0000000000000001", "0000000000000001", "0000000000000001", none]);
}

#[test]
fn limits_are_not_those_of_the_daemon() {
    use rustix::process::{Resource, getrlimit};
    let Some(lab) = Lab::new() else { return };
    let expected = |resource, wanted: u64| getrlimit(resource).maximum.unwrap_or(u64::MAX).min(wanted);
    let files = expected(Resource::Nofile, 1 << 20);
    let output = lab.stdout(&lab.shell("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc"));
    let lines: Vec<&str> = output.lines().collect();
    // With the capability the hard limits are those of the plan, so at least what we have.
    assert!(lines[0] == lines[1] && lines[0].parse::<u64>().unwrap() >= files, "{output}");
    assert_eq!(lines[2], lines[3]);
}

#[test]
fn kernel_paths_are_masked() {
    let Some(lab) = Lab::new() else { return };
    let script = "for f in kcore keys interrupts timer_list; do [ -e /proc/$f ] && cat /proc/$f; done; ls /sys/firmware; \
        echo masked; for f in sys/kernel/core_pattern sys/kernel/hostname sysrq-trigger irq/default_smp_affinity; do \
        [ -e /proc/$f ] && (echo x > /proc/$f) 2>&1; done; (mkdir /sys/fs/cgroup/x) 2>&1; \
        for f in /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/devices.allow; do [ -e $f ] && (echo 1 > $f) 2>&1; done; true";
    let output = lab.stdout(&lab.shell(script));
    println!("{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "masked", "{output}");
    assert!(
        lines.len() > 3 && lines[1..].iter().all(|line| line.contains("Read-only file system")),
        "{output}"
    );
}

#[test]
fn masks_do_not_trust_the_image() {
    let Some(lab) = Lab::new() else { return };
    fs::create_dir(lab.layer().join("dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", lab.layer().join("dev/null")).unwrap();
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let script = "ls -l /dev/null | cut -c1; echo evil > /proc/keys; cat /proc/keys";
    assert_eq!(lab.stdout(&lab.shell(script)), "c\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

#[test]
fn devices() {
    let Some(lab) = Lab::new() else { return };
    let script = "mknod /tmp/disk b 8 0 2>/dev/null; echo $?; mknod /tmp/kmsg c 1 11 2>/dev/null; echo $?; \
        mknod /tmp/null c 1 3 && echo x > /tmp/null; echo $?; \
        for d in null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr; do ls -d /dev/$d; done | wc -l; \
        head -c 4 /dev/zero | wc -c; ls /dev | wc -l; df -m /dev/shm | tail -1 | awk '{print $2}'; touch /dev/shm/x && echo shm";
    assert_eq!(lab.stdout(&lab.shell(script)), "1\n1\n0\n14\n4\n14\n64\nshm\n");
}

#[test]
fn memory_limit() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("x=0123456789abcdef; while :; do x=$x$x; done");
    spec.resources =
        Resources { memory_bytes: Some(16 << 20), memory_swap: Some(16 << 20), ..Resources::default() };
    let exit = lab.finish(&spec).exit;
    assert!(exit.oom_killed, "{exit:?}");
    assert_eq!(exit.exit_code(), Some(137));
    // A fine container under a limit is not reported.
    spec.args = vec!["true".into()];
    assert!(!lab.finish(&spec).exit.oom_killed);
}

#[test]
fn process_and_processor_limits() {
    let Some(lab) = Lab::new() else { return };
    let mut spec = lab.shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo all");
    spec.resources.pids = Some(8);
    let finished = lab.finish(&spec);
    assert!(finished.stderr.contains("fork"), "{}", finished.stderr);
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.resources =
        Resources { cpu_nano: Some(250_000_000), memory_bytes: Some(64 << 20), ..Resources::default() };
    let id = unique("limits");
    lab.runtime().run(&id, &spec).unwrap();
    let place = format!("{}/{id}", lab.config.cgroup_parent);
    let v1 = Path::new("/sys/fs/cgroup/cpu").join(&place).join("cpu.cfs_quota_us");
    let v2 = Path::new("/sys/fs/cgroup").join(&place).join("cpu.max");
    let quota = fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2)).unwrap();
    assert!(quota.starts_with("25000"), "{quota}");
    let stats = lab.runtime().stats(&id).unwrap();
    assert_eq!((stats.memory_limit, stats.pids), (Some(64 << 20), 1));
    assert!(stats.memory_bytes > 0 && stats.cpu_nanoseconds > 0);
    eventually("the supervisor is not in the container's cgroup", || {
        lab.runtime().stats(&id).unwrap().pids == 1
    });
}

#[test]
fn read_only_root_and_mounts() {
    let Some(lab) = Lab::new() else { return };
    let data = lab.host("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "from the host\n").unwrap();
    let script = "touch /x 2>/dev/null || echo root is read-only; (echo >> /etc/hosts) 2>/dev/null || echo hosts are read-only; cat /data/file; touch /data/y 2>/dev/null || echo data is read-only; \
        touch /still/z 2>/dev/null || echo still is read-only; touch /scratch/z && echo scratch; stat -c %a /scratch; df -k /scratch | tail -1 | awk '{print $2}'; touch /rw/new && echo rw; pwd";
    let mut spec = lab.shell(script);
    spec.read_only_rootfs = true;
    spec.cwd = "/made/by/us".into();
    spec.mounts = vec![
        bind(&data, "/data", true),
        bind(&data, "/rw", false),
        Mount::Tmpfs { target: "/scratch".into(), size: Some(1 << 20), mode: Some(0o700), read_only: false },
        Mount::Tmpfs { target: "/still".into(), size: None, mode: None, read_only: true },
    ];
    let expected = "root is read-only\nhosts are read-only\nfrom the host\ndata is read-only\nstill is read-only\nscratch\n700\n1024\nrw\n/made/by/us\n";
    assert_eq!(lab.stdout(&spec), expected);
    assert!(data.join("new").exists());
    // Writing goes to the container's own layer.
    assert_eq!(lab.stdout(&lab.shell("echo changed > /etc/passwd; cat /etc/passwd")), "changed\n");
    assert!(fs::read_to_string(lab.layer().join("etc/passwd")).unwrap().starts_with("root:"));
}

#[test]
fn mount_targets_stay_inside() {
    let Some(lab) = Lab::new() else { return };
    let (data, canary) = (lab.host("data"), lab.host("canary"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&canary).unwrap();
    fs::write(data.join("file"), "mounted\n").unwrap();
    let out = canary.to_str().unwrap();
    symlink(out, lab.layer().join("absolute")).unwrap();
    symlink(format!("../../../../../../..{out}"), lab.layer().join("climbing")).unwrap();
    symlink("/proc/self", lab.layer().join("process")).unwrap();
    symlink("/run/stub-resolv.conf", lab.layer().join("etc/resolv.conf")).unwrap();
    let mut spec = lab.shell("cat /absolute/a/file /climbing/b/file /etc/resolv.conf");
    spec.mounts = vec![bind(&data, "/absolute/a", true), bind(&data, "/climbing/b", true)];
    spec.files.resolv_conf = Some("nameserver 192.0.2.1\n".into());
    assert_eq!(lab.stdout(&spec), "mounted\nmounted\nnameserver 192.0.2.1\n");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    let mut spec = lab.spec(&["true"]);
    spec.mounts = vec![bind(&data, "/process/attr", true)];
    assert_refused(&lab, &spec);
    spec.mounts.clear();
    for cwd in ["/process/cwd", "/proc/self/fd/5", "/proc"] {
        spec.cwd = cwd.into();
        let error = lab.runtime().run(&unique("cwd"), &spec).unwrap_err();
        println!("{error}");
        assert!(error.is_rejection(), "{error}");
    }
}

fn assert_refused(lab: &Lab, spec: &ContainerSpec) {
    match lab.runtime().run(&unique("refused"), spec).unwrap_err() {
        RuntimeError::Setup { failure, .. } => {
            println!("{failure}");
            assert_eq!(failure.kind, FailureKind::RefusedRootfs, "{failure}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn links_at_our_mounts_are_refused() {
    let Some(lab) = Lab::new() else { return };
    for name in ["proc", "sys", "dev"] {
        let link = lab.layer().join(name);
        symlink("/tmp", &link).unwrap();
        assert_refused(&lab, &lab.spec(&["true"]));
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(lab.finish(&lab.spec(&["true"])).code(), 0);
}

/// CVE-2019-5736: the program is replaced by a link to what started it, and everything that can be found under
/// /proc is opened for writing.
#[test]
fn our_binaries_cannot_be_overwritten() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.layer().join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(lab.layer().join("bin/evil"), mode).unwrap();
    for args in [&["/proc/self/exe"][..], &["evil"]] {
        // Whether it starts does not matter: what may run is our own sealed program, which ends at once.
        let id = unique("evil");
        if lab.runtime().run(&id, &lab.spec(args)).is_ok() {
            lab.finished(&id);
        }
        let _ = lab.runtime().delete(&id);
    }
    let script = "i=0; while [ $i -lt 20 ]; do for p in /proc/[0-9]*/exe; do \
        t=$(readlink $p); case $t in *memfd*|*coracle*) echo found $t;; esac; \
        (echo overwritten > $p) 2>/dev/null; done; i=$((i+1)); done";
    let mut attackers = Vec::new();
    for init in [false, true] {
        let mut spec = lab.shell(script);
        spec.init = init;
        let id = unique("attack");
        lab.runtime().run(&id, &spec).unwrap();
        attackers.push(id);
    }
    for _ in 0..10 {
        assert_eq!(lab.finish(&lab.spec(&["true"])).code(), 0);
    }
    for id in attackers {
        lab.finished(&id);
    }
    assert_eq!(lab.stdout(&lab.spec(&["echo", "intact"])), "intact\n");
}

#[test]
fn no_descriptor_leaks() {
    let Some(lab) = Lab::new() else { return };
    // A library that forgets close-on-exec.
    let leak = fs::File::open("/etc").unwrap();
    let number = 199;
    let leaked = rustix::io::fcntl_dupfd_cloexec(&leak, number).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    for init in [false, true] {
        let mut spec = lab.spec(&["ls", "/proc/self/fd"]);
        spec.init = init;
        // ls itself opens the directory as 3.
        assert_eq!(lab.stdout(&spec), "0\n1\n2\n3\n");
    }
}

#[test]
fn users() {
    let Some(lab) = Lab::new() else { return };
    let id = |user: &str, group: Option<&str>, more: &[&str]| {
        let mut spec = lab.shell("id -u; id -g; id -G; echo $HOME");
        spec.user = User {
            user: user.into(),
            group: group.map(str::to_owned),
            additional_groups: more.iter().map(|&name| name.to_owned()).collect(),
        };
        lab.stdout(&spec).replace('\n', "|")
    };
    assert_eq!(id("", None, &[]), "0|0|0|/root|");
    assert_eq!(id("web", None, &[]), "33|44|44 50|/home/web|");
    assert_eq!(id("33", Some("extra"), &["log"]), "33|60|60 50|/home/web|");
    assert_eq!(id("1234", Some("77"), &[]), "1234|77|77|/|");
}

#[test]
fn resource_limits_and_kernel_parameters() {
    let Some(lab) = Lab::new() else { return };
    let mut spec =
        lab.shell("ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni; umask");
    spec.resource_limits = vec![ResourceLimit { name: "nofile".into(), soft: 100, hard: 200 }];
    spec.sysctls = [("net.core.somaxconn", "777"), ("kernel.shmmni", "55")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(lab.stdout(&spec), "100\n200\n777\n55\n0022\n");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap().trim(), "55");
}
