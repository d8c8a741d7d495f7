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
        tracking: Vec::new(),
        cpuset: None,
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

/// A mounted v2 hierarchy, if there is one that we may change.
fn unified() -> Option<PathBuf> {
    let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|mount| rustix::process::geteuid().is_root() && mount.join("cgroup.controllers").exists());
    if mount.is_none() {
        println!("skipped: needs root and a cgroup v2 hierarchy");
    }
    mount
}

#[test]
fn processes_are_moved_out_of_the_way() {
    let Some(mount) = unified() else { return };
    let directory = mount.join(format!("coracle-evacuation-test-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let moved = write_existing(&directory.join("cgroup.procs"), &child.id().to_string())
        .and_then(|()| v2::evacuate(&directory))
        .and_then(|()| fs::read_to_string(directory.join("init/cgroup.procs")));
    let left = fs::read_to_string(directory.join("cgroup.procs"));
    child.kill().unwrap();
    child.wait().unwrap();
    remove_tree(&directory, Instant::now() + REMOVAL_PATIENCE).unwrap();
    assert_eq!(moved.unwrap(), format!("{}\n", child.id()));
    assert_eq!(left.unwrap(), "");
}

/// Devices that the rules do not name cannot be opened by a member of a v2 cgroup. Needs root and a mounted v2
/// hierarchy; controllers are not needed for device programs.
#[test]
fn device_program_is_enforced() {
    let Some(mount) = unified() else { return };
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
