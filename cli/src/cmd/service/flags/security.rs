//! What a container may do beyond an ordinary process, and what confines it.

use std::collections::BTreeSet;

use coracle_proto::v1;

use crate::cmd::service::merge::capabilities;
use crate::opt::security::{self, SecurityOption};
use crate::opt::{FlagError, gpus, mode};

/// Flags of the privileges.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SecurityFlags {
    /// Add a capability such as NET_ADMIN, or ALL; RESET forgets those that were added (may be repeated)
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a capability such as NET_RAW, or ALL; RESET forgets those that were dropped (may be repeated)
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Allow everything; only where the cluster allows it
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    privileged: Option<bool>,
    /// no-new-privileges[=false] (on unless false), seccomp=unconfined|builtin|FILE, apparmor=unconfined|PROFILE, label=disable|KEY:VALUE
    /// (may be repeated)
    #[arg(long, value_name = "OPTION", value_parser = security::parse)]
    security_opt: Vec<SecurityOption>,
    /// Whose processes the container sees: private or host (default private)
    #[arg(long, value_name = "NAMESPACE", value_parser = mode::namespace("pid"))]
    pid: Option<v1::NamespaceMode>,
    /// Whose shared memory and queues it sees: private or host (default private)
    #[arg(long, value_name = "NAMESPACE", value_parser = mode::namespace("ipc"))]
    ipc: Option<v1::NamespaceMode>,
    /// Whose host name it sees: private or host (default private)
    #[arg(long, value_name = "NAMESPACE", value_parser = mode::namespace("uts"))]
    uts: Option<v1::NamespaceMode>,
    /// Graphics cards by the node's CDI files of nvidia.com/gpu: all, a number, device=0,1, or none
    #[arg(long, value_name = "CARDS", value_parser = gpus::parse)]
    gpus: Option<gpus::Gpus>,
}

impl SecurityFlags {
    /// Sets in the container what was given, and leaves the rest.
    ///
    /// # Errors
    /// When a seccomp profile cannot be read.
    pub(crate) fn apply(&self, container: &mut v1::ContainerSpec) -> Result<(), FlagError> {
        super::set(&mut container.pid, &self.pid.map(Into::into));
        super::set(&mut container.ipc, &self.ipc.map(Into::into));
        super::set(&mut container.uts, &self.uts.map(Into::into));
        if let Some(gpus) = &self.gpus {
            gpus.replace_in(&mut container.devices);
        }
        if self.cap_add.is_empty()
            && self.cap_drop.is_empty()
            && self.privileged.is_none()
            && self.security_opt.is_empty()
        {
            return Ok(());
        }
        let privileges = container.privileges.get_or_insert_default();
        super::set(&mut privileges.privileged, &self.privileged);
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        let (added, dropped) = capabilities::merge(
            set(&privileges.capabilities_added),
            set(&privileges.capabilities_dropped),
            &self.cap_add,
            &self.cap_drop,
        );
        privileges.capabilities_added = added.into_iter().collect();
        privileges.capabilities_dropped = dropped.into_iter().collect();
        security::apply(&self.security_opt, privileges)
    }
}
