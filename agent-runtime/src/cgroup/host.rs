//! Which cgroup hierarchies the host has.

use crate::error::{IoContext, RuntimeError};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// v1 controllers that containers join. Others stay with the parent: joining costs time at each start.
const WANTED: &[&str] = &["cpu", "cpuacct", "memory", "pids", "devices"];

/// The generation of cgroups that carries the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V2 => "2",
        })
    }
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    /// Controllers bound to it (v1); on v2 those that its root offers.
    pub(crate) controllers: Vec<String>,
}

/// The hierarchies that containers are put into: exactly one on v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) version: CgroupVersion,
    pub(crate) hierarchies: Vec<Hierarchy>,
    /// Mounts of hierarchies without controllers that a service manager tracks its units with (v1 only). Supervisors
    /// leave the daemon's unit in them too; containers go with their supervisors.
    pub(crate) tracking: Vec<PathBuf>,
    /// Mount of the v1 hierarchy with the controller `cpuset`, which only those containers join that need it.
    pub(crate) cpuset: Option<PathBuf>,
}

impl Host {
    /// Looks at the mounts of this process.
    pub(crate) fn detect() -> Result<Self, RuntimeError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).doing("reading", path)?;
        let mut host = parse(&text)?;
        if host.version == CgroupVersion::V2 {
            for hierarchy in &mut host.hierarchies {
                let file = hierarchy.mount.join("cgroup.controllers");
                let text = fs::read_to_string(&file).doing("reading", &file)?;
                hierarchy.controllers = text.split_whitespace().map(str::to_owned).collect();
            }
        }
        Ok(host)
    }
}

/// With a v1 memory controller the v2 hierarchy, if mounted, has no use ("hybrid").
fn parse(mountinfo: &str) -> Result<Host, RuntimeError> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    let mut named = None;
    let mut cpuset = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut fields = after.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => unified = unified.or(Some(mount)),
            (Some("cgroup"), Some(options)) if options.split(',').any(|option| option == "name=systemd") => {
                named = named.or(Some(mount));
            }
            (Some("cgroup"), Some(options)) => {
                let controllers: Vec<String> =
                    options.split(',').filter(|option| is_controller(option)).map(str::to_owned).collect();
                if controllers.iter().any(|controller| controller == "cpuset") {
                    cpuset = cpuset.or_else(|| Some(mount.clone()));
                }
                let known = hierarchies.iter().any(|known| known.controllers == controllers);
                if !known && controllers.iter().any(|controller| WANTED.contains(&controller.as_str())) {
                    hierarchies.push(Hierarchy { mount, controllers });
                }
            }
            _ => {}
        }
    }
    let has =
        |name: &str| hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|c| c == name));
    if has("memory") {
        let missing: Vec<&str> = WANTED.iter().copied().filter(|name| !has(name)).collect();
        return if missing.is_empty() {
            let tracking = named.into_iter().chain(unified).collect();
            Ok(Host { version: CgroupVersion::V1, hierarchies, tracking, cpuset })
        } else {
            Err(RuntimeError::Host(format!(
                "the cgroup v1 controllers {} are not mounted",
                missing.join(", ")
            )))
        };
    }
    let mount = unified
        .ok_or_else(|| RuntimeError::Host("no cgroup file system is mounted at /sys/fs/cgroup".into()))?;
    let hierarchies = vec![Hierarchy { mount, controllers: Vec::new() }];
    Ok(Host { version: CgroupVersion::V2, hierarchies, tracking: Vec::new(), cpuset: None })
}

fn is_controller(option: &str) -> bool {
    const OTHER: &[&str] = &["rw", "ro", "xattr", "noprefix", "clone_children"];
    !option.contains('=') && !OTHER.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_layout_is_version_1() {
        let text = "30 20 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:2 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:3 / /sys/fs/cgroup/memory rw - cgroup none rw,memory\n\
            33 30 0:4 / /sys/fs/cgroup/pids rw - cgroup none rw,pids\n\
            34 30 0:5 / /sys/fs/cgroup/devices rw - cgroup none rw,devices\n\
            35 30 0:6 / /sys/fs/cgroup/systemd rw - cgroup none rw,xattr,name=systemd\n\
            36 30 0:7 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let host = parse(text).unwrap();
        assert_eq!(host.version, CgroupVersion::V1);
        assert_eq!(host.hierarchies.len(), 4);
        assert_eq!(host.hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(host.tracking, ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].map(PathBuf::from));
    }

    #[test]
    fn one_hierarchy_is_version_2() {
        let host = parse("31 30 0:2 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n").unwrap();
        assert_eq!((host.version, host.hierarchies.len()), (CgroupVersion::V2, 1));
        assert!(parse("").is_err());
    }
}
