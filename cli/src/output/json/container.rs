//! What runs in a task.

use std::collections::BTreeMap;

use coracle_model::mount::{Propagation, Recursive};
use coracle_model::secret::FILE_MODE;
use coracle_model::service::DEFAULT_STOP_GRACE;
use coracle_proto::convert::nanos;
use coracle_proto::v1;
use coracle_proto::v1::health_config::Test;
use serde::Serialize;

use crate::opt::device::DeviceFlag;
use crate::output::words;

/// What runs in a task.
#[derive(Debug, Serialize)]
pub(crate) struct Container {
    image: String,
    digest: String,
    entrypoint: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    workdir: String,
    user: String,
    groups: Vec<String>,
    hostname: String,
    labels: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    secrets: Vec<File>,
    configs: Vec<File>,
    read_only: bool,
    stop_grace_ns: u64,
    stop_signal: String,
    pre_stop_delay_ns: u64,
    init: bool,
    tty: bool,
    health: Health,
    privileges: Privileges,
    devices: Vec<String>,
    ulimits: BTreeMap<String, Ulimit>,
    sysctls: BTreeMap<String, String>,
    dns: Dns,
    hosts: Vec<String>,
    shm_size: u64,
    pid: &'static str,
    ipc: &'static str,
    uts: &'static str,
    oom_score_adj: i32,
    log: Log,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Mount {
    Bind {
        source: String,
        target: String,
        read_only: bool,
        propagation: &'static str,
        recursive: &'static str,
        create_source: bool,
    },
    Tmpfs {
        target: String,
        read_only: bool,
        size_bytes: u64,
        mode: String,
    },
    Volume {
        source: String,
        target: String,
        read_only: bool,
        labels: BTreeMap<String, String>,
        no_copy: bool,
        subpath: String,
    },
    Image {
        source: String,
        digest: String,
        target: String,
        read_only: bool,
        subpath: String,
    },
    Unknown {
        target: String,
        read_only: bool,
    },
}

/// A secret or a config.
#[derive(Debug, Serialize)]
struct File {
    name: String,
    id: String,
    version: u64,
    pinned: bool,
    #[serde(flatten)]
    target: FileTarget,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum FileTarget {
    Path { target: String, uid: u32, gid: u32, mode: String },
    Variable { env: String },
    Unknown {},
}

/// Nulls are the image's, then the default.
#[derive(Debug, Serialize)]
struct Health {
    /// As in images: `CMD` and a command, `CMD-SHELL` and a line, or `NONE`; empty is the image's.
    test: Vec<String>,
    interval_ns: Option<u64>,
    timeout_ns: Option<u64>,
    retries: Option<u32>,
    start_period_ns: Option<u64>,
    start_interval_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Privileges {
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    no_new_privileges: bool,
    seccomp: String,
    apparmor: String,
    selinux: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Ulimit {
    soft: u64,
    hard: u64,
}

#[derive(Debug, Serialize)]
struct Dns {
    servers: Vec<String>,
    options: Vec<String>,
    search: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Log {
    driver: String,
    options: BTreeMap<String, String>,
}

impl From<v1::ContainerSpec> for Container {
    fn from(container: v1::ContainerSpec) -> Self {
        let image = container.image.unwrap_or_default();
        let files = container.files;
        let of_kind = |kind: v1::FileKind| {
            files.iter().filter(|file| file.kind == i32::from(kind)).cloned().map(Into::into).collect()
        };
        let dns = container.dns.unwrap_or_default();
        let log = container.log.unwrap_or_default();
        Self {
            image: image.reference,
            digest: image.digest,
            entrypoint: container.entrypoint,
            args: container.args,
            env: container.env,
            workdir: container.workdir,
            user: container.user,
            groups: container.groups,
            hostname: container.hostname,
            labels: container.labels.into_iter().collect(),
            mounts: container.mounts.into_iter().map(Into::into).collect(),
            secrets: of_kind(v1::FileKind::Secret),
            configs: of_kind(v1::FileKind::Config),
            read_only: container.read_only,
            stop_grace_ns: container.stop_grace.unwrap_or_else(|| nanos(DEFAULT_STOP_GRACE)),
            stop_signal: container.stop_signal,
            pre_stop_delay_ns: container.pre_stop_delay,
            init: container.init,
            tty: container.tty,
            health: container.health.unwrap_or_default().into(),
            privileges: container.privileges.unwrap_or_default().into(),
            devices: container.devices.into_iter().map(|device| DeviceFlag(device).to_string()).collect(),
            ulimits: container
                .ulimits
                .into_iter()
                .map(|(name, limit)| (name, Ulimit { soft: limit.soft, hard: limit.hard }))
                .collect(),
            sysctls: container.sysctls.into_iter().collect(),
            dns: Dns { servers: dns.servers, options: dns.options, search: dns.search },
            hosts: container.hosts,
            shm_size: container.shm_size,
            pid: words::namespace(container.pid),
            ipc: words::namespace(container.ipc),
            uts: words::namespace(container.uts),
            oom_score_adj: container.oom_score_adj,
            log: Log { driver: log.driver, options: log.options.into_iter().collect() },
        }
    }
}

impl From<v1::Mount> for Mount {
    fn from(mount: v1::Mount) -> Self {
        use v1::mount::Kind;
        let (target, read_only) = (mount.target, mount.read_only);
        match mount.kind {
            Some(Kind::Bind(bind)) => Self::Bind {
                propagation: Propagation::from(bind.propagation()).as_str(),
                recursive: Recursive::from(bind.recursive()).as_str(),
                create_source: bind.create_source,
                source: bind.source,
                target,
                read_only,
            },
            Some(Kind::Tmpfs(tmpfs)) => {
                Self::Tmpfs { target, read_only, size_bytes: tmpfs.size, mode: format!("{:04o}", tmpfs.mode) }
            }
            Some(Kind::Volume(volume)) => Self::Volume {
                source: volume.name,
                target,
                read_only,
                labels: volume.labels.into_iter().collect(),
                no_copy: volume.no_copy,
                subpath: volume.subpath,
            },
            Some(Kind::Image(mount)) => {
                let image = mount.image.unwrap_or_default();
                let (source, digest, subpath) = (image.reference, image.digest, mount.subpath);
                Self::Image { source, digest, target, read_only, subpath }
            }
            None => Self::Unknown { target, read_only },
        }
    }
}

impl From<v1::FileReference> for File {
    fn from(file: v1::FileReference) -> Self {
        use v1::file_reference::Target;
        let target = match file.target {
            Some(Target::Path(path)) => FileTarget::Path {
                target: path.path,
                uid: path.uid,
                gid: path.gid,
                mode: format!("{:04o}", path.mode.unwrap_or(FILE_MODE)),
            },
            Some(Target::Variable(env)) => FileTarget::Variable { env },
            None => FileTarget::Unknown {},
        };
        Self { name: file.name, id: file.file, version: file.content, pinned: file.pinned, target }
    }
}

impl From<v1::HealthConfig> for Health {
    fn from(health: v1::HealthConfig) -> Self {
        let words = |kind: &str, rest: Vec<String>| [vec![kind.to_owned()], rest].concat();
        Self {
            test: match health.test {
                None => Vec::new(),
                Some(Test::Disabled(_)) => words("NONE", Vec::new()),
                Some(Test::Command(command)) => words("CMD", command.arguments),
                Some(Test::Shell(line)) => words("CMD-SHELL", vec![line]),
            },
            interval_ns: health.interval,
            timeout_ns: health.timeout,
            retries: health.retries,
            start_period_ns: health.start_period,
            start_interval_ns: health.start_interval,
        }
    }
}

impl From<v1::Privileges> for Privileges {
    fn from(privileges: v1::Privileges) -> Self {
        let or_default = |text: String| if text.is_empty() { "default".to_owned() } else { text };
        Self {
            privileged: privileges.privileged,
            cap_add: privileges.capabilities_added,
            cap_drop: privileges.capabilities_dropped,
            no_new_privileges: !privileges.new_privileges,
            seccomp: or_default(privileges.seccomp),
            apparmor: or_default(privileges.apparmor),
            selinux: privileges.selinux,
        }
    }
}
