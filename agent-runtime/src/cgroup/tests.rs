use super::*;

/// A v2 hierarchy of plain files stands in for the kernel's.
#[test]
fn v2_limits_reach_their_files() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("coracle/node/one");
    fs::create_dir_all(&directory).unwrap();
    for file in ["memory.max", "pids.max", "cpu.max"] {
        fs::write(directory.join(file), "").unwrap();
    }
    let host = Host {
        version: CgroupVersion::V2,
        hierarchies: vec![Hierarchy { mount: root.path().to_owned(), controllers: Vec::new() }],
    };
    let cgroups = Cgroups { host, parent: "coracle/node".into() };
    let id: ContainerId = "one".parse().unwrap();
    let resources =
        Resources { cpu_nano: Some(500_000_000), memory_bytes: Some(64 << 20), ..Resources::default() };
    for write in v2::writes(&resources) {
        cgroups.apply(&id, &write).unwrap();
    }
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("pids.max"), "4096");
    assert_eq!(read("cpu.max"), "50000 100000");
    let membership = cgroups.membership(&id);
    assert_eq!(membership.directory, Some(directory.clone()));
    assert!(membership.join.is_empty());
    assert_eq!(membership.out_of_memory.unwrap().file, directory.join("memory.events"));
}

/// Devices that the rules do not name cannot be opened by a member of a v2 cgroup. Needs root and a mounted v2
/// hierarchy; controllers are not needed for device programs.
#[test]
fn device_program_is_enforced() {
    let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|mount| mount.join("cgroup.controllers").exists());
    let (true, Some(mount)) = (rustix::process::geteuid().is_root(), mount) else {
        println!("skipped: needs root and a cgroup v2 hierarchy");
        return;
    };
    let directory = mount.join(format!("coracle-device-test-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let attached = attach_devices(&directory, devices::DEFAULT);
    let script = format!(
        "echo $$ > {}/cgroup.procs; : > /dev/null && echo null; (: < /dev/kmsg) 2>/dev/null && echo kmsg; \
         mknod /tmp/coracle-no-{} b 8 0 2>/dev/null && echo mknod; true",
        directory.display(),
        std::process::id()
    );
    let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    remove_tree(&directory, Instant::now() + REMOVAL_PATIENCE).unwrap();
    attached.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "null\n");
}
