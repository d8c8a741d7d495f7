use super::*;
use crate::digest::Digest;
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
