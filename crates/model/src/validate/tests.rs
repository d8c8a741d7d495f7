use super::*;
use crate::digest::Digest;
use crate::mount::MountKind;
use crate::rebalance::RebalancePolicy;
use crate::service::PinnedImage;

fn spec() -> ServiceSpec {
    let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    let container = ContainerSpec::of(PinnedImage { reference: "web:1".to_owned(), digest });
    ServiceSpec::of("web".parse().unwrap(), ServiceMode::Replicated { replicas: 1 }, TaskSpec::of(container))
}

/// The message for a specification changed by `change`, or `ok`.
fn check(change: impl FnOnce(&mut ServiceSpec)) -> String {
    let mut subject = spec();
    change(&mut subject);
    service(&subject).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

fn tmpfs(target: &str) -> Mount {
    Mount { target: target.to_owned(), read_only: false, kind: MountKind::Tmpfs { size: 0, mode: 0o1777 } }
}

#[test]
fn a_plain_specification_is_accepted() {
    assert_eq!(check(|_| ()), "ok");
}

#[test]
fn every_rule_names_field_value_and_remedy() {
    let cases: Vec<(String, &str)> = vec![
        (
            check(|s| s.mode = ServiceMode::Replicated { replicas: 100_001 }),
            "replicas: invalid value \"100001\": at most 100000 tasks are possible",
        ),
        (
            check(|s| s.task.limits.memory = MemoryBytes(1 << 20)),
            "limit-memory: invalid value \"1MiB\": the minimum is 4MiB",
        ),
        (
            check(|s| s.task.reservations.memory = MemoryBytes(5)),
            "reserve-memory: invalid value \"5B\": the minimum is 4MiB",
        ),
        (
            check(|s| s.task.limits.cpu = NanoCpus(10)),
            "limit-cpu: invalid value \"0.00000001\": the minimum is 0.001 cpus",
        ),
        (
            check(|s| {
                s.task.limits.memory = MemoryBytes(8 << 20);
                s.task.reservations.memory = MemoryBytes(16 << 20);
            }),
            "reserve-memory: invalid value \"16MiB\": more than the limit of 8MiB",
        ),
        (
            check(|s| s.task.container.mounts = vec![tmpfs("/a"), tmpfs("//a/.")]),
            "mount target: invalid value \"//a/.\": two mounts have this target; each needs its own",
        ),
        (
            check(|s| s.task.container.mounts = vec![tmpfs("a")]),
            "mount target: invalid value \"a\": use an absolute path",
        ),
        (
            check(|s| s.task.container.mounts = vec![tmpfs("/")]),
            "mount target: invalid value \"/\": the root of the container cannot be mounted over",
        ),
        (
            check(|s| s.task.container.mounts = vec![tmpfs("/a/../b")]),
            "mount target: invalid value \"/a/../b\": a path with '..' is not accepted",
        ),
        (check(|s| s.task.container.env = vec!["=x".to_owned()]), "env: invalid value \"=x\": use KEY=VALUE"),
        (
            check(|s| s.task.container.args = vec!["a\0".to_owned()]),
            "args: invalid value \"a\\0\": a zero byte is not accepted",
        ),
        (
            check(|s| s.task.container.workdir = "tmp".to_owned()),
            "workdir: invalid value \"tmp\": use an absolute path",
        ),
        (
            check(|s| s.task.container.hostname = "-x".to_owned()),
            "hostname: invalid value \"-x\": use letters, digits, '-' and '.', at most 64 characters",
        ),
        (
            check(|s| s.task.container.stop_signal = "SIGNOPE".to_owned()),
            "stop-signal: invalid value \"SIGNOPE\": use a name such as SIGTERM or a number from 1 to 64",
        ),
        (
            check(|s| s.task.restart.delay = Duration::from_secs(1 << 40)),
            "restart-delay: invalid value \"1099511627776s\": at most one year is possible",
        ),
        (
            check(|s| {
                s.mode = ServiceMode::Global;
                s.task.placement.max_replicas_per_node = 1;
            }),
            "replicas-max-per-node: invalid value \"1\": a global service has one task on each node; leave this out",
        ),
        (
            check(|s| {
                s.labels.insert("a b".to_owned(), "c".to_owned());
            }),
            "label: invalid value \"a b=c\": a label's key is not empty and has no white space or '='",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, expected);
    }
}

#[test]
fn signals_have_names_and_numbers() {
    assert_eq!(signal_number("SIGTERM"), Some(15));
    assert_eq!(signal_number("usr1"), Some(10));
    assert_eq!(signal_number("9"), Some(9));
    assert_eq!(signal_number("RTMIN+3"), Some(37));
    assert_eq!(signal_number("65"), None);
    assert_eq!(signal_number(""), None);
}

#[test]
fn only_what_tasks_are_made_of_replaces_them() {
    let before = spec().task;
    let with = |change: fn(&mut TaskSpec)| {
        let mut after = before.clone();
        change(&mut after);
        before.also_satisfies(&after)
    };
    assert!(with(|t| t.placement.constraints.push("node.role==worker".parse().unwrap())));
    assert!(!with(|t| t.container.env.push("A=b".to_owned())));
    assert!(!with(|t| t.force_update = 1));
}

#[test]
fn placeholders_are_read_and_tried_with_an_example() {
    let env = |value: &str| check(|s| s.task.container.env = vec![format!("A={value}")]);
    assert_eq!(env("{{ .Task.Slot }}{{\"{{\"}}"), "ok");
    let wrong = env("xy{{ name }}");
    assert!(
        wrong.starts_with("env: invalid value \"A\": at character 3: {{ name }} is not known; what can"),
        "{wrong}"
    );
    assert!(
        wrong.ends_with("{{\"{{\"}} for two braces that are meant as they are (in its value)"),
        "{wrong}"
    );
    assert_eq!(check(|s| s.task.container.hostname = "{{.Task.Name}}".to_owned()), "ok");
    let long = check(|s| {
        s.name = "w".repeat(40).parse().unwrap();
        s.task.container.hostname = "{{.Task.Name}}".to_owned();
    });
    assert!(
        long.ends_with("at most 64 characters; this is an example of what its placeholders become"),
        "{long}"
    );
    assert_eq!(
        check(|s| {
            s.task.container.hostname = "{{.Task.Slot}}".to_owned();
            s.task.container.workdir = "tmp".to_owned();
        }),
        "workdir: invalid value \"tmp\": use an absolute path"
    );
}

fn device(host: &str, permissions: &str) -> crate::security::Device {
    let (host, container) = (host.to_owned(), host.to_owned());
    crate::security::Device::Path { host, container, permissions: permissions.to_owned() }
}

fn job(spec: &mut ServiceSpec) {
    spec.mode = ServiceMode::ReplicatedJob { completions: 2, concurrent: 1 };
}

fn schedule(cron: &str, timezone: &str) -> Option<crate::job::Schedule> {
    let (cron, timezone) = (cron.to_owned(), timezone.to_owned());
    Some(crate::job::Schedule { cron, timezone, concurrency: Default::default(), history: 3 })
}

/// Field and value are in front of each, as in all of these messages.
#[test]
fn every_rule_of_rollouts_and_jobs_names_field_value_and_remedy() {
    let minute = Duration::from_secs(60);
    let cases: Vec<(String, &str)> = vec![
        (
            check(|s| s.update.delay = Duration::from_secs(1 << 40)),
            "update-delay: invalid value \"1099511627776s\": at most one year is possible",
        ),
        (
            check(|s| s.rollback.failure_action = crate::rollout::FailureAction::Rollback),
            "rollback-failure-action: invalid value \"rollback\": use pause or continue",
        ),
        (
            check(|s| {
                job(s);
                s.update.parallelism = 2;
            }),
            "mode: invalid value \"replicated-job\": a job is not replaced task by task; leave out the flags --update-…",
        ),
        (
            check(|s| s.job.time_limit = minute),
            "time-limit: invalid value \"60s\": only jobs have it; use --mode replicated-job or global-job, or leave it out",
        ),
        (
            check(|s| {
                job(s);
                s.job.schedule = schedule("0 0 * * *", "Europe/Nowhere");
            }),
            "timezone: invalid value \"Europe/Nowhere\": use a name such as Europe/Berlin, or leave it out for UTC",
        ),
        (
            check(|s| s.rebalance.max_skew = 0),
            "rebalance-max-skew: invalid value \"0\": two nodes may always differ by one task; use 1 or more",
        ),
        (
            check(|s| s.rebalance.delay = Duration::from_millis(999)),
            "rebalance-delay: invalid value \"0.999s\": use 1s or more",
        ),
        (
            check(|s| {
                s.mode = ServiceMode::Global;
                s.rebalance.policy = RebalancePolicy::Auto;
            }),
            "rebalance: invalid value \"auto\": a global service has one task on every node: there is nothing to move",
        ),
        (
            check(|s| {
                s.mode = ServiceMode::GlobalJob;
                s.rebalance.max_skew = 2;
            }),
            "rebalance: invalid value \"off\": tasks of jobs are not moved: they end",
        ),
        (
            check(|s| {
                s.task.placement.strategy = crate::placement::Strategy::Binpack;
                s.rebalance.policy = RebalancePolicy::Auto;
            }),
            "rebalance: invalid value \"auto\": a service with placement-strategy binpack is to be uneven; use spread, or a preference",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, expected);
    }
    let wrong = check(|s| {
        job(s);
        s.job.schedule = schedule("61 * * * *", "");
    });
    assert!(wrong.starts_with("schedule: invalid value \"61 * * * *\": "), "{wrong}");
    assert_eq!(check(job), "ok");
    let both = check(|s| {
        job(s);
        s.job.schedule = schedule("0 0 * * *", "");
        s.job.time_to_live = Some(minute);
    });
    assert_eq!(both, "ok");
}

#[test]
fn every_rule_of_containers_names_field_value_and_remedy() {
    let cases: Vec<(String, &str)> = vec![
        (
            check(|s| s.task.container.health.interval = Some(Duration::from_micros(1))),
            "health-interval: invalid value \"1000ns\": the minimum is 1ms; 0 is the image's own",
        ),
        (
            check(|s| s.task.container.groups = vec!["a:b".to_owned()]),
            "group: invalid value \"a:b\": use a name or a number",
        ),
        (
            check(|s| s.task.container.dns.servers = vec!["10.0.0.1:53".to_owned()]),
            "dns: invalid value \"10.0.0.1:53\": use an IP address, without a port",
        ),
        (
            check(|s| s.task.container.hosts = vec!["db 10.0.0.1".to_owned()]),
            "host: invalid value \"db 10.0.0.1\": use NAME:ADDRESS with an IP address and a name of letters, digits, '-', '.' and '_'",
        ),
        (
            check(|s| s.task.container.oom_score_adj = 1001),
            "oom-score-adj: invalid value \"1001\": use a whole number from -1000 to 1000",
        ),
        (
            check(|s| s.task.container.log.driver = "syslog".to_owned()),
            "log-driver: invalid value \"syslog\": use local or none",
        ),
        (
            check(|s| {
                s.task.container.log.options.insert("max-file".to_owned(), "0".to_owned());
            }),
            "log-opt: invalid value \"max-file=0\": max-size is bytes such as 10m, max-file a number from 1 to 100",
        ),
        (
            check(|s| s.task.limits.swap = crate::resources::Swap::Unlimited),
            "memory-swap: invalid value \"-1\": it adds to a memory limit; give --limit-memory, too",
        ),
        (
            check(|s| s.task.limits.cpuset = "3-1".to_owned()),
            "cpuset-cpus: invalid value \"3-1\": use rising numbers and ranges, such as 0-2,7",
        ),
        (
            check(|s| {
                s.task
                    .placement
                    .host_ports
                    .insert(crate::placement::HostPort { port: 80, protocol: Default::default() });
            }),
            "publish: invalid value \"80/tcp\": a port of the node needs --network host",
        ),
        (
            check(|s| {
                s.task.generic.insert("a b".to_owned(), 1);
            }),
            "generic-resource: invalid value \"a b=1\": use KIND=NUMBER with a kind of letters, digits, '-', '_', '.' and '/', and 1 or more",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, expected);
    }
    assert_eq!(check(|s| s.task.limits.cpuset = "0-2,7".to_owned()), "ok");
}

#[test]
fn every_rule_of_privileges_names_field_value_and_remedy() {
    let cases: Vec<(String, &str)> = vec![
        (
            check(|s| s.task.container.privileges.capabilities_added = ["CAP_FLY".to_owned()].into()),
            "cap-add: invalid value \"CAP_FLY\": unknown capability; use a name such as NET_ADMIN, or ALL",
        ),
        (
            check(|s| s.task.container.devices = vec![device("/dev/fuse", "rr")]),
            "device: invalid value \"rr\": permissions are any of r, w and m, each once",
        ),
        (
            check(|s| s.task.container.devices = vec![device("/dev/a", "r"), device("/dev/a", "w")]),
            "device: invalid value \"/dev/a\": two devices have this path; each needs its own",
        ),
        (
            check(|s| s.task.container.devices = vec![crate::security::Device::Cdi("gpu".to_owned())]),
            "device: invalid value \"gpu\": use a CDI name such as vendor.com/class=name",
        ),
        (
            check(|s| {
                s.task
                    .container
                    .ulimits
                    .insert("nofile".to_owned(), crate::service::Ulimit { soft: 2, hard: 1 });
            }),
            "ulimit: invalid value \"nofile\": the soft limit is above the hard one",
        ),
        (
            check(|s| {
                s.task.container.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
            }),
            "sysctl: invalid value \"vm.swappiness\": only settings of the container's own namespaces can be set",
        ),
        (
            check(|s| {
                s.task.network = crate::service::NetworkMode::Host;
                s.task.container.sysctls.insert("net.core.somaxconn".to_owned(), "1".to_owned());
            }),
            "sysctl: invalid value \"net.core.somaxconn\": the network is the node's own; leave it out, or use --network none",
        ),
        (
            check(|s| s.task.container.shm_size = 7),
            "shm-size: invalid value \"7\": the minimum is 4096 bytes; 0 is the default",
        ),
        (
            check(|s| s.task.container.privileges.selinux = vec!["colour:red".to_owned()]),
            "security-opt: invalid value \"label=colour:red\": use label=disable, or label=KEY:VALUE with user, role, type, filetype or level",
        ),
        (
            check(|s| s.task.container.privileges.selinux = vec!["type:web_t:s0".to_owned()]),
            "security-opt: invalid value \"label=type:web_t:s0\": it has letters, digits and _ . - only",
        ),
        (
            check(|s| s.task.container.privileges.selinux = vec!["level:s0\",size=1".to_owned()]),
            "security-opt: invalid value \"label=level:s0\\\",size=1\": a level such as s0:c1,c2 has letters, digits and _ . : , - only",
        ),
        (
            check(|s| {
                s.task.container.privileges.privileged = true;
                s.task.container.privileges.capabilities_dropped = ["ALL".to_owned()].into();
            }),
            "privileged: invalid value \"true\": it cannot be combined with cap-drop or with profiles for seccomp and AppArmor: it switches them off",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, expected);
    }
}

#[test]
fn power_over_the_node_needs_the_clusters_policy() {
    use crate::security::{NamespaceMode, Seccomp};
    type Change = fn(&mut ServiceSpec);
    let changes: [(&str, Change); 6] = [
        ("privileged", |s| s.task.container.privileges.privileged = true),
        ("device", |s| s.task.container.devices = vec![device("/dev/fuse", "r")]),
        ("pid", |s| s.task.container.pid = NamespaceMode::Host),
        ("security-opt", |s| s.task.container.privileges.seccomp = Seccomp::Unconfined),
        ("security-opt", |s| s.task.container.privileges.selinux = vec!["type:spc_t".to_owned()]),
        ("cap-add", |s| s.task.container.privileges.capabilities_added = ["CAP_SYS_ADMIN".to_owned()].into()),
    ];
    for (field, change) in changes {
        let mut subject = spec();
        change(&mut subject);
        assert_eq!(service(&subject), Ok(()));
        assert_eq!(policy(&subject, true), Ok(()));
        let refusal = policy(&subject, false).unwrap_err();
        assert_eq!(refusal.field, field);
        assert!(refusal.to_string().ends_with("allow them with `coracle swarm update --allow-privileged`"));
    }
    assert_eq!(policy(&spec(), false), Ok(()));
}

fn given(kind: crate::secret::FileKind, path: &str, mode: u32) -> crate::secret::FileReference {
    crate::secret::FileReference {
        kind,
        name: "key".parse().unwrap(),
        file: crate::id::FileId::from_bits(1),
        content: 1,
        pinned: false,
        target: crate::secret::FileTarget::File { path: path.to_owned(), uid: 0, gid: 0, mode },
    }
}

/// Those that the command line does not let through, or has merged away.
#[test]
fn rules_that_flags_do_not_reach_name_field_value_and_remedy_too() {
    use crate::health::HealthTest;
    use crate::secret::FileKind::Secret;
    use crate::security::Seccomp;
    let cases: Vec<(String, &str)> = vec![
        (
            check(|s| s.task.container.args = vec![String::new(); 1025]),
            "args: invalid value \"1025\": at most 1024 entries are possible",
        ),
        (
            check(|s| s.task.container.health.test = HealthTest::Shell(String::new())),
            "health-cmd: invalid value \"\": the command is empty",
        ),
        (
            check(|s| s.task.container.health.test = HealthTest::Command(Vec::new())),
            "health-cmd: invalid value \"\": the command is empty",
        ),
        (
            check(|s| s.task.container.files = vec![given(Secret, "../key", 0o444)]),
            "secret: invalid value \"../key\": the target is a path of a file, without '..'",
        ),
        (
            check(|s| s.task.container.files = vec![given(Secret, "key", 0o10_000)]),
            "secret: invalid value \"10000\": use permission bits up to 7777",
        ),
        (
            check(|s| {
                s.task.container.files = vec![given(Secret, "key", 0o444), given(Secret, "./key", 0o444)]
            }),
            "secret: invalid value \"key\": two secrets or configs have its target; each needs its own",
        ),
        (
            check(|s| {
                let kind = MountKind::Tmpfs { size: 0, mode: 0o10_000 };
                s.task.container.mounts = vec![Mount { kind, ..tmpfs("/a") }];
            }),
            "tmpfs-mode: invalid value \"10000\": use permission bits up to 7777",
        ),
        (
            check(|s| {
                s.task.container.privileges.capabilities_added = ["CAP_CHOWN".to_owned()].into();
                s.task.container.privileges.capabilities_dropped = ["CAP_CHOWN".to_owned()].into();
            }),
            "cap-add: invalid value \"CAP_CHOWN\": it is dropped, too; give it once",
        ),
        (
            check(|s| s.task.container.privileges.seccomp = Seccomp::Custom("x".repeat(262_145))),
            "security-opt: invalid value \"seccomp\": the profile is longer than 262144 bytes",
        ),
        (
            check(|s| s.task.container.privileges.seccomp = Seccomp::Custom("[]".to_owned())),
            "security-opt: invalid value \"seccomp\": the profile is no JSON object with a \"defaultAction\"",
        ),
        (
            check(|s| {
                s.task.container.sysctls.insert("kernel.sem".to_owned(), "1\n2".to_owned());
            }),
            "sysctl: invalid value \"kernel.sem=1\\n2\": the value is one line",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, expected);
    }
}

#[test]
fn every_rule_of_volumes_names_field_value_and_remedy() {
    let volume = |name: &str, subpath: &str| {
        let kind = MountKind::Volume {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            no_copy: false,
            subpath: subpath.to_owned(),
        };
        container::mount(&Mount { kind, ..tmpfs("/a") }).unwrap_err().to_string()
    };
    assert_eq!(
        volume("/a", ""),
        "mount source: invalid value \"/a\": a volume has a name of letters, digits, '_', '.' and '-'; for a path of the node use type=bind"
    );
    assert_eq!(
        volume("a", "../b"),
        "volume-subpath: invalid value \"../b\": use a path below the root, without '..'"
    );
}
