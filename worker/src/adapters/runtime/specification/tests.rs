use std::collections::{BTreeMap, BTreeSet};

use coracle_model::digest::Digest;
use coracle_model::id::TaskId;
use coracle_model::resources::MemoryBytes;
use coracle_model::service::{PinnedImage, Ulimit};

use super::*;

fn launch() -> Launch {
    let image = PinnedImage { reference: "web:1".into(), digest: Digest::from_bytes([1; 32]) };
    Launch {
        task: TaskId::from_bits(1),
        arguments: vec!["serve".into()],
        environment: Vec::new(),
        working_directory: "/".into(),
        user: String::new(),
        hostname: "box".into(),
        layers: vec!["/layer".into()],
        read_only: false,
        mounts: Vec::new(),
        places: BTreeMap::new(),
        files: Vec::new(),
        variables: Vec::new(),
        selinux: None,
        network: NetworkMode::None,
        limits: Limits::default(),
        labels: BTreeMap::new(),
        log_directory: "/logs".into(),
        stop_signal: 15,
        container: Wishes::of(image),
    }
}

fn node() -> NodeFiles {
    NodeFiles {
        hosts: "127.0.0.1 localhost\n10.0.0.1 node-1\n".into(),
        resolv_conf: "# mine\nnameserver 10.0.0.53\nnameserver bad\nsearch a.example\nsearch b.example\noptions ndots:2\n".into(),
    }
}

fn made(launch: &Launch) -> ContainerSpec {
    specification(launch, &node()).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn users_and_groups_are_told_apart() {
    let cases = [("", "", None), ("5", "5", None), ("a:b", "a", Some("b")), ("a:", "a", None)];
    for (text, expected, group) in cases {
        let user = user(text, &["log".into()]);
        assert_eq!((user.user.as_str(), user.group.as_deref()), (expected, group), "{text}");
        assert_eq!(user.additional_groups, ["log"]);
    }
}

#[test]
fn capabilities_by_dockers_rules() {
    let default = Capabilities::container_default();
    let of = |added: &[&str], dropped: &[&str], privileged| {
        let privileges = Privileges {
            privileged,
            capabilities_added: set(added),
            capabilities_dropped: set(dropped),
            ..Privileges::default()
        };
        capabilities(&privileges).map_err(|error| error.to_string())
    };
    assert_eq!(of(&[], &[], false).unwrap(), default);
    assert_eq!(
        of(&["NET_ADMIN"], &["CAP_KILL"], false).unwrap(),
        default.with(["NET_ADMIN"]).unwrap().without(["KILL"]).unwrap()
    );
    assert_eq!(of(&["CAP_CHOWN"], &["ALL"], false).unwrap(), Capabilities::none().with(["CHOWN"]).unwrap());
    assert_eq!(
        of(&["all"], &["CHOWN"], false).unwrap(),
        Capabilities::available().without(["CHOWN"]).unwrap()
    );
    assert_eq!(of(&[], &[], true).unwrap(), Capabilities::available());
    assert!(of(&["FLY"], &[], false).unwrap_err().starts_with("cap-add: capability \"FLY\" is unknown"));
    assert!(of(&[], &["FLY"], false).unwrap_err().starts_with("cap-drop: capability \"FLY\" is unknown"));
}

#[test]
fn protections_are_on_unless_switched_off() {
    let spec = made(&launch());
    assert!(
        spec.no_new_privileges
            && !spec.privileged
            && spec.seccomp == Seccomp::Default
            && spec.apparmor.is_none()
    );
    let mut loose = launch();
    loose.container.privileges.privileged = true;
    let spec = made(&loose);
    assert!(!spec.no_new_privileges && spec.privileged && spec.seccomp == Seccomp::Unconfined);
    loose.container.privileges.seccomp = Filter::Custom("{}".into());
    assert_eq!(made(&loose).seccomp, Seccomp::Custom("{}".into()));
    let mut labelled = launch();
    labelled.container.privileges.selinux = vec!["level:s0:c1".into()];
    assert_eq!(made(&labelled).selinux, None, "they are made by whoever knows the node's policy");
    let [process, mount] = ["u:r:t:s0:c1", "u:object_r:f:s0:c1"].map(str::to_owned);
    let labels = crate::Labels {
        process: process.clone(),
        mount: mount.clone(),
        shared: "u:object_r:f:s0".into(),
        layer: "u:object_r:l:s0".into(),
    };
    labelled.selinux = Some(labels);
    assert_eq!(made(&labelled).selinux, Some(SelinuxLabels { process, mount }));
}

#[test]
fn whatever_is_asked_for_reaches_the_runtime() {
    let mut launch = launch();
    let wishes = &mut launch.container;
    wishes.init = true;
    wishes.tty = true;
    wishes.pid = NamespaceMode::Host;
    wishes.ipc = NamespaceMode::Host;
    wishes.uts = NamespaceMode::Host;
    wishes.shm_size = 4096;
    wishes.oom_score_adj = 7;
    wishes.sysctls.insert("net.core.somaxconn".into(), "9".into());
    wishes.ulimits.insert("nofile".into(), Ulimit { soft: 1, hard: 2 });
    wishes.devices = vec![
        DeviceSpec::Path { host: "/dev/a".into(), container: "/dev/b".into(), permissions: "r".into() },
        DeviceSpec::Cdi("v.com/c=1".into()),
    ];
    launch.limits = Limits {
        swappiness: Some(3),
        cpuset: "0-1".into(),
        memory: MemoryBytes(100),
        swap: Swap::Bytes(50),
        ..Limits::default()
    };
    let spec = made(&launch);
    assert!(spec.init && spec.terminal && spec.hostname.is_none());
    assert_eq!(spec.host_namespaces, HostNamespaces { pid: true, ipc: true, uts: true });
    assert_eq!((spec.shm_size, spec.oom_score_adj, spec.sysctls.len()), (Some(4096), 7, 1));
    assert_eq!(spec.resource_limits, [ResourceLimit { name: "nofile".into(), soft: 1, hard: 2 }]);
    assert_eq!(spec.devices[0].container, "/dev/b");
    assert_eq!(spec.cdi_devices, ["v.com/c=1"]);
    assert_eq!(spec.resources.memory_swap, Some(150));
    assert_eq!((spec.resources.swappiness, spec.resources.cpuset.as_deref()), (Some(3), Some("0-1")));
    for (wished, pids) in [(None, Some(4096)), (Some(0), None), (Some(7), Some(7))] {
        launch.limits.pids = wished;
        assert_eq!(made(&launch).resources.pids, pids, "{wished:?}");
    }
    launch.limits.swap = Swap::Unlimited;
    assert_eq!(made(&launch).resources.memory_swap, Some(u64::MAX));
    launch.limits.memory = MemoryBytes(0);
    assert!(specification(&launch, &node()).unwrap_err().to_string().contains("memory limit"));
}

#[test]
fn logs() {
    let with = |driver: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        log(&Logging { driver: driver.into(), options }).map_err(|error| error.to_string())
    };
    assert_eq!(with("", &[]).unwrap(), LogConfig::default());
    let config = with("local", &[("max-size", "20m"), ("max-file", "5")]).unwrap();
    assert_eq!((config.max_size, config.max_files, config.discard), (20 << 20, 5, false));
    assert!(with("none", &[]).unwrap().discard);
    for (driver, options, why) in [
        ("syslog", &[][..], "log-driver: syslog"),
        ("", &[("max-size", "many")][..], "log-opt max-size: many"),
        ("", &[("max-size", "0")][..], "log-opt max-size: 0"),
        ("", &[("max-file", "0")][..], "log-opt max-file: 0"),
        ("", &[("tag", "x")][..], "log-opt: tag"),
        ("none", &[("max-size", "1m")][..], "log-opt: max-size"),
    ] {
        let error = with(driver, options).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn names_and_servers() {
    let mut launch = launch();
    assert_eq!(made(&launch).files.hosts.unwrap(), format!("{LOCALHOST}127.0.1.1\tbox\n"));
    assert_eq!(made(&launch).files.resolv_conf, None);
    launch.container.hosts = vec!["10.1.2.3 db db.example".into(), "::1 six".into()];
    let text = made(&launch).files.hosts.unwrap();
    assert!(text.ends_with("127.0.1.1\tbox\n10.1.2.3\tdb db.example\n::1\tsix\n"), "{text}");
    launch.network = NetworkMode::Host;
    let text = made(&launch).files.hosts.unwrap();
    assert!(text.starts_with("127.0.0.1 localhost\n10.0.0.1 node-1\n10.1.2.3\tdb"), "{text}");
    launch.container.hosts.clear();
    assert_eq!(made(&launch).files.hosts, None);
    launch.container.dns.search = vec!["mine.example".into()];
    assert_eq!(
        made(&launch).files.resolv_conf.unwrap(),
        "nameserver 10.0.0.53\nsearch mine.example\noptions ndots:2\n"
    );
    launch.container.dns =
        Dns { servers: vec!["1.1.1.1".into()], options: vec!["rotate".into()], search: vec![".".into()] };
    assert_eq!(made(&launch).files.resolv_conf.unwrap(), "nameserver 1.1.1.1\noptions rotate\n");
}

#[test]
fn binds() {
    let bind = |propagation, recursive, read_only| {
        let kind = MountKind::Bind { source: "/srv".into(), propagation, recursive, create_source: true };
        mount(&MountSpec { target: "/data".into(), read_only, kind }, &launch())
    };
    let Mount::Bind { recursive, options, .. } =
        bind(Propagate::RecursiveSlave, Recursive::Writable, true).unwrap()
    else {
        panic!("no bind");
    };
    assert!(recursive && options.writable_below && options.create_source);
    assert_eq!(options.propagation, Propagation::Slave);
    let Mount::Bind { recursive, .. } = bind(Propagate::Shared, Recursive::Disabled, false).unwrap() else {
        panic!("no bind");
    };
    assert!(!recursive);
    let error = bind(Propagate::Shared, Recursive::Enabled, false).unwrap_err().to_string();
    assert!(error.starts_with("bind-propagation: shared:"), "{error}");
}

#[test]
fn volumes_and_images_are_where_the_launch_says() {
    let kind = MountKind::Volume {
        name: "v".into(),
        labels: BTreeMap::new(),
        no_copy: false,
        subpath: "a/b".into(),
    };
    let volume = MountSpec { target: "/data".into(), read_only: true, kind };
    let error = mount(&volume, &launch()).unwrap_err().to_string();
    assert_eq!(error, "mount: type volume at /data: nothing is there");
    let mut launch = launch();
    launch.places.insert("/data".into(), Place::Folder("/volumes/v/_data".into()));
    let options = BindOptions { subpath: "a/b".into(), ..BindOptions::default() };
    let source = "/volumes/v/_data".into();
    let expected = Mount::Bind { source, target: "/data".into(), read_only: true, recursive: false, options };
    assert_eq!(mount(&volume, &launch).unwrap(), expected);
    launch.places.insert("/data".into(), Place::Layers(vec!["/b".into(), "/a".into()]));
    let expected = Mount::Layers {
        lower: vec!["/b".into(), "/a".into()],
        target: "/data".into(),
        subpath: "a/b".into(),
    };
    assert_eq!(mount(&volume, &launch).unwrap(), expected);
}

/// What managers accept and what the runtime carries out, neither of which may know of the other.
#[test]
fn limits_and_kernel_settings_have_the_same_names_at_both_ends() {
    let names = |names: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<_> { names.collect() };
    assert_eq!(
        names(&mut coracle_agent_runtime::resource_limit_names()),
        names(&mut coracle_model::validate::ULIMITS.into_iter())
    );
    assert_eq!(
        names(&mut coracle_agent_runtime::IPC_PARAMETERS.iter().copied()),
        names(&mut coracle_model::validate::IPC_SYSCTLS.into_iter())
    );
}
