//! Flags that may be given several times: `--X` of `service create`, `--X-add` and `--X-rm` of `service update`.

use coracle_model::constraint::Constraint;
use coracle_model::placement::{ServiceLabel, SpreadOver};
use coracle_proto::v1;

use super::merge::{self, list};
use crate::opt::device::{self, DeviceFlag};
use crate::opt::env::{self, Variable};
use crate::opt::file::{self, FileFlag};
use crate::opt::generic::{self, Generic};
use crate::opt::label::{self, Label};
use crate::opt::mount::MountFlag;
use crate::opt::ulimit::{self, UlimitFlag};
use crate::opt::{FlagError, host, port};

/// The lists of `service create`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct CreateLists {
    /// Set a variable, or pass on one of this environment (may be repeated)
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env: Vec<Variable>,
    /// Read variables from a file, one in a line (may be repeated)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Mount something: type=bind,source=PATH,target=PATH,readonly or type=tmpfs,target=PATH,tmpfs-size=BYTES or
    /// type=volume,source=NAME,target=PATH or type=image,source=IMAGE,target=PATH (may be repeated)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<MountFlag>,
    /// Label of the service (may be repeated)
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label::parser("label"))]
    label: Vec<Label>,
    /// Label of its containers (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("container-label"))]
    container_label: Vec<Label>,
    /// Where tasks may run, such as node.role==worker or node.labels.zone!=a (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Vec<Constraint>,
    /// Divide tasks equally among the values of a label: spread=node.labels.KEY (may be repeated)
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref: Vec<SpreadOver>,
    /// Keep tasks off nodes with tasks of services that have a label (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]")]
    anti_affinity: Vec<ServiceLabel>,
    /// Set aside a number of something that nodes have, such as GPU=1 (may be repeated)
    #[arg(long, value_name = "KIND=NUMBER", value_parser = generic::parse)]
    generic_resource: Vec<Generic>,
    /// Take a port of the node: mode=host,target=PORT, with --network host (may be repeated)
    #[arg(short, long, value_name = "PORT", value_parser = port::parse)]
    publish: Vec<v1::HostPort>,
    /// Supplementary group, by name or number (may be repeated)
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Give a secret: NAME, NAME@VERSION or source=NAME,target=PATH,uid=0,gid=0,mode=0444 or source=NAME,env=NAME
    /// (may be repeated)
    #[arg(long, value_name = "SECRET", value_parser = file::parser(v1::FileKind::Secret))]
    secret: Vec<FileFlag>,
    /// Give a config: NAME, NAME@VERSION or source=NAME,target=PATH,uid=0,gid=0,mode=0444 (may be repeated)
    #[arg(long, value_name = "CONFIG", value_parser = file::parser(v1::FileKind::Config))]
    config: Vec<FileFlag>,
    /// Line of the container's hosts file (may be repeated)
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host::parse)]
    host: Vec<String>,
    /// Server for name resolution (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Option of name resolution (may be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Search domain of name resolution (may be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Limit of processes, such as nofile=1024:4096 (may be repeated)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit: Vec<UlimitFlag>,
    /// Kernel setting of the container's own namespaces (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parser("sysctl"))]
    sysctl: Vec<Label>,
    /// Device of the node: PATH, PATH:PATH-INSIDE or PATH:PATH-INSIDE:rwm, or the name of a CDI device (may be repeated)
    #[arg(long, value_name = "DEVICE")]
    device: Vec<DeviceFlag>,
}

/// The lists of `service update`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct UpdateLists {
    /// Add or replace a variable (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env_add: Vec<Variable>,
    /// Remove a variable (may be repeated)
    #[arg(long, value_name = "KEY")]
    env_rm: Vec<String>,
    /// Add or replace a mount (may be repeated)
    #[arg(long, value_name = "MOUNT")]
    mount_add: Vec<MountFlag>,
    /// Remove the mount at a target (may be repeated)
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Add or replace a label of the service (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("label-add"))]
    label_add: Vec<Label>,
    /// Remove a label of the service (may be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or replace a label of the containers (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("container-label-add"))]
    container_label_add: Vec<Label>,
    /// Remove a label of the containers (may be repeated)
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add a constraint (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<Constraint>,
    /// Remove a constraint (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<Constraint>,
    /// Add a placement preference, after those there are (may be repeated)
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref_add: Vec<SpreadOver>,
    /// Remove a placement preference (may be repeated)
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref_rm: Vec<SpreadOver>,
    /// Add a label of services to keep away from (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]")]
    anti_affinity_add: Vec<ServiceLabel>,
    /// Remove a label of services to keep away from (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]")]
    anti_affinity_rm: Vec<ServiceLabel>,
    /// Add or replace a number of something that nodes have (may be repeated)
    #[arg(long, value_name = "KIND=NUMBER", value_parser = generic::parse)]
    generic_resource_add: Vec<Generic>,
    /// Remove a kind of something that nodes have (may be repeated)
    #[arg(long, value_name = "KIND")]
    generic_resource_rm: Vec<String>,
    /// Add a port of the node (may be repeated)
    #[arg(long, value_name = "PORT", value_parser = port::parse)]
    publish_add: Vec<v1::HostPort>,
    /// Remove a port of the node (may be repeated)
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = port::removal)]
    publish_rm: Vec<v1::HostPort>,
    /// Add a supplementary group (may be repeated)
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Remove a supplementary group (may be repeated)
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Add a secret, or replace the one at its target (may be repeated)
    #[arg(long, value_name = "SECRET", value_parser = file::parser(v1::FileKind::Secret))]
    secret_add: Vec<FileFlag>,
    /// Remove a secret by its name (may be repeated)
    #[arg(long, value_name = "NAME")]
    secret_rm: Vec<String>,
    /// Add a config, or replace the one at its target (may be repeated)
    #[arg(long, value_name = "CONFIG", value_parser = file::parser(v1::FileKind::Config))]
    config_add: Vec<FileFlag>,
    /// Remove a config by its name (may be repeated)
    #[arg(long, value_name = "NAME")]
    config_rm: Vec<String>,
    /// Add a line to the container's hosts file (may be repeated)
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host::parse)]
    host_add: Vec<String>,
    /// Remove lines from the container's hosts file (may be repeated)
    #[arg(long, value_name = "NAME[:ADDRESS]")]
    host_rm: Vec<String>,
    /// Add a server for name resolution (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    dns_add: Vec<String>,
    /// Remove a server for name resolution (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    dns_rm: Vec<String>,
    /// Add an option of name resolution (may be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option_add: Vec<String>,
    /// Remove an option of name resolution (may be repeated)
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,
    /// Add a search domain (may be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search_add: Vec<String>,
    /// Remove a search domain (may be repeated)
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,
    /// Add or replace a limit of processes (may be repeated)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit_add: Vec<UlimitFlag>,
    /// Remove a limit of processes (may be repeated)
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
    /// Add or replace a kernel setting (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label::parser("sysctl-add"))]
    sysctl_add: Vec<Label>,
    /// Remove a kernel setting (may be repeated)
    #[arg(long, value_name = "KEY")]
    sysctl_rm: Vec<String>,
    /// Add or replace a device of the node (may be repeated)
    #[arg(long, value_name = "DEVICE")]
    device_add: Vec<DeviceFlag>,
    /// Remove a device by its path inside, or its CDI name (may be repeated)
    #[arg(long, value_name = "DEVICE")]
    device_rm: Vec<String>,
}

impl CreateLists {
    /// The same as an update of an empty specification.
    ///
    /// # Errors
    /// When a file with variables cannot be read.
    pub(crate) fn additions(&self) -> Result<UpdateLists, FlagError> {
        let mut env_add = env::read_files(&self.env_file)?;
        env_add.extend(self.env.iter().cloned());
        let this = self.clone();
        Ok(UpdateLists {
            env_add,
            mount_add: this.mount,
            label_add: this.label,
            container_label_add: this.container_label,
            constraint_add: this.constraint,
            placement_pref_add: this.placement_pref,
            anti_affinity_add: this.anti_affinity,
            generic_resource_add: this.generic_resource,
            publish_add: this.publish,
            group_add: this.group,
            secret_add: this.secret,
            config_add: this.config,
            host_add: this.host,
            dns_add: this.dns,
            dns_option_add: this.dns_option,
            dns_search_add: this.dns_search,
            ulimit_add: this.ulimit,
            sysctl_add: this.sysctl,
            device_add: this.device,
            ..Default::default()
        })
    }
}

impl UpdateLists {
    /// Flags that remove what the specification does not have, as they were typed: each is tried alone.
    pub(crate) fn idle_removals(&self, spec: &v1::ServiceSpec) -> Vec<String> {
        let applied = |lists: &Self| {
            let mut spec = spec.clone();
            lists.apply(&mut spec);
            spec
        };
        let unchanged = applied(&Self::default());
        // Behind a pointer, so that what is written once for each flag is little.
        let is_idle: &dyn Fn(&Self) -> bool = &|alone| applied(alone) == unchanged;
        let mut idle = Vec::new();
        macro_rules! try_each {
            ($($field:ident $flag:literal $text:expr),* $(,)?) => {$(
                for value in &self.$field {
                    let mut alone = Self::default();
                    alone.$field.push(value.clone());
                    if is_idle(&alone) {
                        idle.push(format!("--{} {}", $flag, $text(value)));
                    }
                }
            )*};
        }
        try_each! {
            env_rm "env-rm" ToString::to_string, mount_rm "mount-rm" ToString::to_string,
            label_rm "label-rm" ToString::to_string, container_label_rm "container-label-rm" ToString::to_string,
            constraint_rm "constraint-rm" ToString::to_string,
            placement_pref_rm "placement-pref-rm" ToString::to_string,
            anti_affinity_rm "anti-affinity-rm" ToString::to_string,
            generic_resource_rm "generic-resource-rm" ToString::to_string,
            publish_rm "publish-rm" port::render, group_rm "group-rm" ToString::to_string,
            secret_rm "secret-rm" ToString::to_string, config_rm "config-rm" ToString::to_string,
            host_rm "host-rm" ToString::to_string, dns_rm "dns-rm" ToString::to_string,
            dns_option_rm "dns-option-rm" ToString::to_string, dns_search_rm "dns-search-rm" ToString::to_string,
            ulimit_rm "ulimit-rm" ToString::to_string, sysctl_rm "sysctl-rm" ToString::to_string,
            device_rm "device-rm" ToString::to_string,
        }
        idle
    }

    /// Adds to the specification and removes from it what was given, and leaves the rest.
    pub(crate) fn apply(&self, spec: &mut v1::ServiceSpec) {
        spec.labels = merge::labels::merge(std::mem::take(&mut spec.labels), &self.label_add, &self.label_rm);
        let task = spec.task.get_or_insert_default();
        task.generic.retain(|kind, _| !self.generic_resource_rm.contains(kind));
        task.generic.extend(self.generic_resource_add.iter().map(|add| (add.kind.clone(), add.count)));
        self.apply_placement(task.placement.get_or_insert_default());
        self.apply_container(task.container.get_or_insert_default());
    }

    fn apply_placement(&self, placement: &mut v1::Placement) {
        placement.constraints =
            merge::placement::merge(&placement.constraints, &self.constraint_add, &self.constraint_rm);
        let words = |given: &[SpreadOver]| given.iter().map(ToString::to_string).collect::<Vec<_>>();
        placement.preferences = list::texts(
            std::mem::take(&mut placement.preferences),
            &words(&self.placement_pref_add),
            &words(&self.placement_pref_rm),
        );
        let words = |given: &[ServiceLabel]| given.iter().map(ToString::to_string).collect::<Vec<_>>();
        placement.away_from = list::texts(
            std::mem::take(&mut placement.away_from),
            &words(&self.anti_affinity_add),
            &words(&self.anti_affinity_rm),
        );
        placement.host_ports = list::merge(
            std::mem::take(&mut placement.host_ports),
            &self.publish_add,
            |port| self.publish_rm.contains(port),
            |known, port| known == port,
        );
    }

    fn apply_container(&self, container: &mut v1::ContainerSpec) {
        use std::mem::take;
        let env_add = env::resolve_all(&self.env_add);
        container.env = merge::env::merge(&container.env, &env_add, &self.env_rm);
        container.mounts = merge::mount::merge(take(&mut container.mounts), &self.mount_add, &self.mount_rm);
        container.labels = merge::labels::merge(
            take(&mut container.labels),
            &self.container_label_add,
            &self.container_label_rm,
        );
        container.groups = list::texts(take(&mut container.groups), &self.group_add, &self.group_rm);
        container.files = self.files(take(&mut container.files));
        let hosts = take(&mut container.hosts);
        let gone = |line: &String| self.host_rm.iter().any(|removal| host::is_meant(line, removal));
        container.hosts = list::merge(hosts, &self.host_add, gone, |known, line| known == line);
        self.apply_dns(&mut container.dns);
        container
            .ulimits
            .retain(|name, _| !self.ulimit_rm.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
        container.ulimits.extend(self.ulimit_add.iter().map(|add| (add.name.clone(), add.limit)));
        container.sysctls =
            merge::labels::merge(take(&mut container.sysctls), &self.sysctl_add, &self.sysctl_rm);
        let devices: Vec<_> = self.device_add.iter().map(|flag| flag.0.clone()).collect();
        container.devices = list::merge(
            take(&mut container.devices),
            &devices,
            |known| self.device_rm.iter().any(|gone| gone == device::key(known)),
            |known, device| device::key(known) == device::key(device),
        );
    }

    fn apply_dns(&self, dns: &mut Option<v1::Dns>) {
        let present = dns.take().unwrap_or_default();
        let merged = v1::Dns {
            servers: list::texts(present.servers, &self.dns_add, &self.dns_rm),
            options: list::texts(present.options, &self.dns_option_add, &self.dns_option_rm),
            search: list::texts(present.search, &self.dns_search_add, &self.dns_search_rm),
        };
        *dns = Some(merged);
    }

    fn files(&self, present: Vec<v1::FileReference>) -> Vec<v1::FileReference> {
        let add: Vec<_> = self.secret_add.iter().chain(&self.config_add).map(|flag| flag.0.clone()).collect();
        let removed = |kind: v1::FileKind, names: &[String], file: &v1::FileReference| {
            file.kind == i32::from(kind) && names.contains(&file.name)
        };
        let gone = |file: &v1::FileReference| {
            removed(v1::FileKind::Secret, &self.secret_rm, file)
                || removed(v1::FileKind::Config, &self.config_rm, file)
        };
        list::merge(present, &add, gone, |known, file| known.kind == file.kind && same_place(known, file))
    }
}

/// Two references to one path or variable.
fn same_place(one: &v1::FileReference, other: &v1::FileReference) -> bool {
    use v1::file_reference::Target;
    match (&one.target, &other.target) {
        (Some(Target::Path(one)), Some(Target::Path(other))) => one.path == other.path,
        (Some(Target::Variable(one)), Some(Target::Variable(other))) => one == other,
        _ => false,
    }
}
