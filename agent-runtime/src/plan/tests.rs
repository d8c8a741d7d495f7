use super::*;
use crate::spec::{BindOptions, User};
use std::fmt::Write;

fn plan(spec: &ContainerSpec, version: CgroupVersion) -> Plan {
    plan_with(spec, version, &[])
}

fn plan_with(spec: &ContainerSpec, version: CgroupVersion, hooks: &[cdi::Hook]) -> Plan {
    let id = "web.1.abc".parse().unwrap();
    let v1 = version == CgroupVersion::V1;
    let membership = Membership {
        version,
        join: if v1 { vec!["/cg/memory/p/web.1.abc/tasks".into()] } else { Vec::new() },
        directory: (!v1).then(|| "/cg/p/web.1.abc".into()),
        supervisor: Vec::new(),
        out_of_memory: None,
        hierarchies: if v1 {
            vec![vec!["cpu".into(), "cpuacct".into()], vec!["memory".into()]]
        } else {
            Vec::new()
        },
    };
    let directory = ContainerDirectory { state: "/state/web.1.abc".into(), run: "/run/web.1.abc".into() };
    build(&Input {
        id: &id,
        spec,
        directory: &directory,
        membership: &membership,
        log_directory: directory.state.clone(),
        devices: &[],
        hooks,
        seccomp: Some("00".into()),
        host_masks: &["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        start_at_once: true,
        setup_timeout: Duration::from_secs(60),
    })
}

fn text(plan: &Plan) -> String {
    plan.steps.iter().fold(String::new(), |mut text, step| {
        writeln!(text, "{step}").unwrap();
        text
    })
}

#[test]
fn default_container_on_version_1() {
    let spec = ContainerSpec::new(vec!["/layers/b".into(), "/layers/a".into()], vec!["sh".into()]);
    insta::assert_snapshot!(text(&plan(&spec, CgroupVersion::V1)));
}

#[test]
fn everything_on_version_2() {
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    spec.user = User { user: "web".into(), group: Some("log".into()), additional_groups: vec!["7".into()] };
    spec.network = Network::Host;
    spec.read_only_rootfs = true;
    spec.cwd = "/srv".into();
    spec.hostname = Some("box".into());
    spec.mounts = vec![
        Mount::Tmpfs {
            target: "/data/cache/deep".into(),
            size: Some(4096),
            mode: Some(0o700),
            read_only: false,
        },
        Mount::Bind {
            source: "/srv/data".into(),
            target: "/data".into(),
            read_only: true,
            recursive: true,
            options: BindOptions::default(),
        },
        Mount::Bind {
            source: "/volumes/data".into(),
            target: "/part".into(),
            read_only: false,
            recursive: false,
            options: BindOptions { subpath: "a/b".into(), ..BindOptions::default() },
        },
        Mount::Layers {
            lower: vec!["/layers/d".into(), "/layers/c".into()],
            target: "/other".into(),
            subpath: String::new(),
        },
    ];
    spec.resource_limits = vec![crate::spec::ResourceLimit { name: "nofile".into(), soft: 10, hard: 20 }];
    spec.sysctls.insert("kernel.shmmax".into(), "1".into());
    insta::assert_snapshot!(text(&plan(&spec, CgroupVersion::V2)));
}

#[test]
fn labels_are_on_all_that_is_made_for_the_container_and_on_nothing_else() {
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    spec.mounts = vec![
        Mount::Tmpfs { target: "/cache".into(), size: None, mode: None, read_only: false },
        Mount::Layers { lower: vec!["/layers/b".into()], target: "/other".into(), subpath: String::new() },
        Mount::Bind {
            source: "/srv".into(),
            target: "/srv".into(),
            read_only: true,
            recursive: true,
            options: BindOptions::default(),
        },
    ];
    spec.selinux = Some(crate::selinux::SelinuxLabels {
        process: "u:r:box_t:s0:c1,c2".into(),
        mount: "u:object_r:box_file_t:s0:c1,c2".into(),
    });
    let plan = plan(&spec, CgroupVersion::V1);
    let text = text(&plan);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("c1,c2")).collect();
    // Masked files get a file, not a file system; one that is no folder does not use the label.
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("masking ")).collect();
    insta::assert_snapshot!(lines.join("\n"));
    let round: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
    assert_eq!(round, plan);
    // The host's own queues and shared memory are not touched.
    spec.host_namespaces.ipc = true;
    let text = self::text(&self::plan(&spec, CgroupVersion::V1));
    assert!(!text.contains("labelling /dev") && !text.contains("mounting tmpfs at /dev/shm"), "{text}");
}

#[test]
fn namespaces_follow_the_network() {
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    let network = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    assert_ne!(plan(&spec, CgroupVersion::V1).namespaces & network, 0);
    for other in [Network::Host, Network::Path("/run/netns/a".into())] {
        spec.network = other;
        assert_eq!(plan(&spec, CgroupVersion::V1).namespaces & network, 0);
    }
}

#[test]
fn environment_has_defaults_that_can_be_replaced() {
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    spec.env = vec!["PATH=/mine".into()];
    let plan = plan(&spec, CgroupVersion::V1);
    assert_eq!(plan.program.environment, ["PATH=/mine", "HOSTNAME=web.1.abc"]);
    let round: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
    assert_eq!(round, plan);
}

#[test]
fn secret_variables_take_the_place_of_others_and_are_not_printed() {
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    spec.env = vec!["TOKEN=image".into(), "A=1".into()];
    spec.secret_env = crate::spec::SecretVariables::new(vec!["TOKEN=canary=x".into()]);
    let environment = plan(&spec, CgroupVersion::V2).program.environment;
    assert_eq!(environment[..2], ["A=1", "TOKEN=canary=x"]);
    let printed = format!("{spec:?}");
    assert!(printed.contains("[\"TOKEN\"]") && !printed.contains("canary"), "{printed}");
}

#[test]
fn hooks_come_when_all_is_mounted_and_before_anything_is_masked() {
    use crate::cdi::When;
    let hook = |when, path: &str| cdi::Hook {
        device: "v.com/c=0".into(),
        when,
        path: path.into(),
        arguments: vec!["x".into()],
        environment: vec!["A=1".into()],
        seconds: 7,
    };
    let mut spec = ContainerSpec::new(vec!["/layers/a".into()], vec!["sh".into()]);
    spec.mounts = vec![Mount::Tmpfs { target: "/cache".into(), size: None, mode: None, read_only: false }];
    let hooks = [
        hook(When::CreateContainer, "/bin/last"),
        hook(When::CreateRuntime, "/bin/second"),
        hook(When::Prestart, "/bin/first"),
        hook(When::CreateRuntime, "/bin/third"),
    ];
    let plan = plan_with(&spec, CgroupVersion::V2, &hooks);
    let text = text(&plan);
    let at = |line: &str| text.lines().position(|known| known.starts_with(line)).unwrap();
    let order = [
        at("mounting tmpfs at /cache"),
        at("running the hook /bin/first of v.com/c=0"),
        at("running the hook /bin/second of v.com/c=0"),
        at("running the hook /bin/third of v.com/c=0"),
        at("running the hook /bin/last of v.com/c=0"),
        at("masking "),
        at("changing the root"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let Step::Hook(told) = &plan.steps[order[1]] else { panic!() };
    let state = serde_json::to_string(&told.state).unwrap();
    assert_eq!(
        state,
        r#"{"ociVersion":"1.2.0","id":"web.1.abc","status":"creating","pid":0,"bundle":"/state/web.1.abc/bundle","root":"/state/web.1.abc/rootfs"}"#
    );
    let round: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
    assert_eq!(round, plan);
    assert_eq!(plan.hooks_milliseconds, 50_000);
    assert_eq!(hook::milliseconds(Duration::from_secs(8)), 4_000);
}
