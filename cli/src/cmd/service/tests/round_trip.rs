//! Nothing is lost between flags, messages, the model and what is printed; and updates undo what updates did.

use coracle_proto::v1;
use proptest::prelude::*;

use super::{created, read, updated};
use crate::output::json;

/// Flags with one value each; the first place is for `create`, where `update` needs another one.
fn single() -> Vec<BoxedStrategy<Vec<String>>> {
    let one = |flag: &'static str, values: &'static [&'static str]| {
        proptest::sample::select(values).prop_map(move |value| vec![format!("{flag}={value}")]).boxed()
    };
    vec![
        one("--user", &["7", "web:web"]),
        one("--workdir", &["/w", "/"]),
        one("--hostname", &["h", "{{.Task.Slot}}"]),
        one("--entrypoint", &["/init -v", ""]),
        one("--init", &["true", "false"]),
        one("--tty", &["true", "false"]),
        one("--read-only", &["true", "false"]),
        one("--stop-grace-period", &["0s", "1m"]),
        one("--stop-signal", &["SIGINT", "RTMIN+3"]),
        one("--pre-stop-delay", &["0s", "2s"]),
        one("--network", &["none", "host"]),
        one("--log-driver", &["local", "none"]),
        one("--restart-condition", &["none", "on-failure", "any"]),
        one("--restart-delay", &["0s", "1m"]),
        one("--restart-max-attempts", &["0", "4"]),
        one("--restart-window", &["0s", "2h"]),
        one("--limit-cpu", &["0.5", "0"]),
        one("--limit-memory", &["64m", "0"]),
        one("--limit-pids", &["9", "0"]),
        one("--reserve-cpu", &["0.1", "0"]),
        one("--reserve-memory", &["32m", "0"]),
        one("--memory-swap", &["-1", "128m", "default"]),
        one("--memory-swappiness", &["0", "100"]),
        one("--cpuset-cpus", &["0-2,7", ""]),
        one("--shm-size", &["1m", "0"]),
        one("--oom-score-adj", &["-5", "0", "1000"]),
        one("--replicas-max-per-node", &["0", "2"]),
        one("--placement-strategy", &["spread", "binpack"]),
        one("--node-down-delay", &["10s", "0s"]),
        one("--health-cmd", &["true", "a | b"]),
        one("--health-interval", &["0s", "5s"]),
        one("--health-retries", &["0", "3"]),
        one("--privileged", &["true", "false"]),
        one(
            "--security-opt",
            &["no-new-privileges=false", "apparmor=mine", "label=type:web", "seccomp=unconfined"],
        ),
        one("--pid", &["private", "host"]),
        one("--ipc", &["private", "host"]),
        one("--uts", &["private", "host"]),
        one("--update-parallelism", &["0", "3"]),
        one("--update-delay", &["0s", "3s"]),
        one("--update-failure-action", &["pause", "continue", "rollback"]),
        one("--update-max-failure-ratio", &["0", "0.25", "1"]),
        one("--update-order", &["stop-first", "start-first"]),
        one("--update-timeout", &["0s", "1m"]),
        one("--rollback-parallelism", &["0", "3"]),
        one("--rollback-monitor", &["1s", "9s"]),
    ]
}

type List = (&'static str, &'static [&'static str], fn(&str) -> String);

/// Flags of lists: that of `create`, whose name with `-add` is that of `update`; values; and what `-rm` takes for each.
const LISTS: [List; 20] = [
    ("--env", &["A=1", "B=", "C={{.Task.ID}}"], before_equals),
    ("--label", &["a=b", "c"], before_equals),
    ("--container-label", &["a=b", "c"], before_equals),
    ("--constraint", &["node.role==worker", "node.labels.zone!=a"], whole),
    ("--placement-pref", &["spread=node.labels.zone", "spread=engine.labels.rack"], whole),
    ("--anti-affinity", &["noisy", "team=a"], whole),
    ("--generic-resource", &["GPU=2", "SSD=1"], before_equals),
    ("--publish", &["mode=host,target=80", "mode=host,target=53,protocol=udp"], port),
    ("--group", &["7", "web"], whole),
    ("--secret", &["key", "other@2,env=TOKEN", "third,target=/a,uid=7,mode=0400"], file),
    ("--config", &["key", "conf@3"], file),
    ("--host", &["db:10.0.0.5", "six:2001:db8::5"], host),
    ("--dns", &["10.0.0.1", "::1"], whole),
    ("--dns-option", &["timeout:3"], whole),
    ("--dns-search", &["example.org"], whole),
    ("--ulimit", &["nofile=1:2", "core=-1"], before_equals),
    ("--sysctl", &["net.core.somaxconn=9", "kernel.shmmax=1"], before_equals),
    ("--device", &["/dev/fuse", "/dev/a:/dev/b:r", "vendor.com/card=0"], device),
    (
        "--mount",
        &[
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700",
            "source=v,target=/v,volume-label=a=b,volume-nocopy",
            "type=bind,source=/s,target=/b,ro,bind-recursive=writable",
        ],
        target,
    ),
    ("--cap-add", &["NET_ADMIN", "SYS_TIME"], whole),
];

fn whole(value: &str) -> String {
    value.to_owned()
}

fn before_equals(value: &str) -> String {
    value.split('=').next().unwrap_or_default().to_owned()
}

fn port(value: &str) -> String {
    if value.contains("udp") { "53/udp".to_owned() } else { "80".to_owned() }
}

fn file(value: &str) -> String {
    value.split([',', '@']).next().unwrap_or_default().to_owned()
}

fn host(value: &str) -> String {
    value.split(':').next().unwrap_or_default().to_owned()
}

fn device(value: &str) -> String {
    if value.starts_with('/') {
        value.split(':').nth(1).unwrap_or(value).to_owned()
    } else {
        value.to_owned()
    }
}

fn target(value: &str) -> String {
    value.split(',').find_map(|part| part.strip_prefix("target=")).unwrap_or_default().to_owned()
}

/// Some flags of one value each.
fn singles() -> impl Strategy<Value = Vec<String>> {
    let perhaps: Vec<_> = single().into_iter().map(|flag| proptest::option::weighted(0.2, flag)).collect();
    perhaps.prop_map(|flags| flags.into_iter().flatten().flatten().collect())
}

/// Some entries of lists, by their place in [`LISTS`] and among its values.
fn entries() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let all: Vec<(usize, usize)> =
        (0..LISTS.len()).flat_map(|list| (0..LISTS[list].1.len()).map(move |value| (list, value))).collect();
    let count = all.len();
    proptest::sample::subsequence(all, 0..=count)
}

fn as_flags(entries: &[(usize, usize)], suffix: &str) -> Vec<String> {
    let flag = |(list, value): &(usize, usize)| {
        let (name, values, _) = LISTS[*list];
        // The one that is not a list of `update`'s kind.
        let suffix = if name == "--cap-add" { "" } else { suffix };
        format!("{name}{suffix}={}", values[*value])
    };
    entries.iter().map(flag).collect()
}

fn removals(entries: &[(usize, usize)]) -> Vec<String> {
    let lists = entries.iter().filter(|(list, _)| LISTS[*list].0 != "--cap-add");
    lists
        .map(|(list, value)| format!("{}-rm={}", LISTS[*list].0, LISTS[*list].2(LISTS[*list].1[*value])))
        .collect()
}

/// The message that managers answer with, for what was read of a request.
fn answered(spec: v1::ServiceSpec) -> v1::ServiceSpec {
    (&read(spec).unwrap()).into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Request, model, answer, model, answer, and the printed form: all say the same.
    #[test]
    fn nothing_is_lost(single in singles(), entries in entries()) {
        let flags: Vec<String> = single.into_iter().chain(as_flags(&entries, "")).collect();
        let request = created(&flags).unwrap();
        let model = read(request.clone()).unwrap();
        let answer: v1::ServiceSpec = (&model).into();
        prop_assert_eq!(&read(answer.clone()).unwrap(), &model);
        let printed = |spec: v1::ServiceSpec| {
            let service = v1::Service { spec: Some(spec), ..Default::default() };
            serde_json::to_value(json::Service::new(service, None)).unwrap()
        };
        let shown = printed(answer.clone());
        prop_assert_eq!(&printed(answered(answer)), &shown);
        // Every value that was given is somewhere in it.
        let text = shown.to_string();
        for (list, value) in entries {
            let word = LISTS[list].2(LISTS[list].1[value]);
            let word = word.split(['/', '=']).rfind(|part| !part.is_empty()).unwrap_or_default();
            prop_assert!(text.contains(word), "{} is missing in {}", word, text);
        }
    }

    /// An update without flags changes nothing, and one that adds is undone by one that removes.
    #[test]
    fn updates_change_what_they_say_and_nothing_else(
        single in singles(),
        present in entries(),
        added in entries(),
    ) {
        let added: Vec<_> = added.into_iter().filter(|(list, _)| present.iter().all(|(there, _)| there != list)).collect();
        let flags: Vec<String> = single.into_iter().chain(as_flags(&present, "")).collect();
        let before = answered(created(&flags).unwrap());
        let same = answered(updated(before.clone(), &[]).unwrap());
        prop_assert_eq!(&same, &before);
        let without_capabilities: Vec<_> = added.iter().copied().filter(|(list, _)| LISTS[*list].0 != "--cap-add").collect();
        let more = answered(updated(before.clone(), &as_flags(&without_capabilities, "-add")).unwrap());
        prop_assert_eq!(more == before, without_capabilities.is_empty());
        let less = answered(updated(more, &removals(&without_capabilities)).unwrap());
        prop_assert_eq!(&less, &before);
    }

    /// The same value once more is the same as once.
    #[test]
    fn single_values_are_set_and_stay(single in singles(), entries in entries()) {
        let before = answered(created(&as_flags(&entries, "")).unwrap());
        let once = updated(before, &single).map(answered);
        if let Ok(once) = once {
            prop_assert_eq!(answered(updated(once.clone(), &single).unwrap()), once);
        }
    }
}
