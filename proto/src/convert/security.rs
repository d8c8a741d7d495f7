//! Privileges, devices and shared namespaces.

use coracle_model::security::{AppArmor, Device, NamespaceMode, Privileges, Seccomp};

use super::{DecodeError, required};
use crate::v1;

/// The word for no confinement.
const UNCONFINED: &str = "unconfined";

impl From<&Privileges> for v1::Privileges {
    fn from(privileges: &Privileges) -> Self {
        let seccomp = match &privileges.seccomp {
            Seccomp::Default => String::new(),
            Seccomp::Unconfined => UNCONFINED.to_owned(),
            Seccomp::Custom(profile) => profile.clone(),
        };
        let apparmor = match &privileges.apparmor {
            AppArmor::Default => String::new(),
            AppArmor::Unconfined => UNCONFINED.to_owned(),
            AppArmor::Profile(name) => name.clone(),
        };
        Self {
            privileged: privileges.privileged,
            capabilities_added: privileges.capabilities_added.iter().cloned().collect(),
            capabilities_dropped: privileges.capabilities_dropped.iter().cloned().collect(),
            new_privileges: privileges.new_privileges,
            seccomp,
            apparmor,
            selinux: privileges.selinux.clone(),
        }
    }
}

impl From<v1::Privileges> for Privileges {
    fn from(message: v1::Privileges) -> Self {
        Self {
            privileged: message.privileged,
            capabilities_added: message.capabilities_added.into_iter().collect(),
            capabilities_dropped: message.capabilities_dropped.into_iter().collect(),
            new_privileges: message.new_privileges,
            seccomp: match message.seccomp.as_str() {
                "" => Seccomp::Default,
                UNCONFINED => Seccomp::Unconfined,
                _ => Seccomp::Custom(message.seccomp),
            },
            apparmor: match message.apparmor.as_str() {
                "" => AppArmor::Default,
                UNCONFINED => AppArmor::Unconfined,
                _ => AppArmor::Profile(message.apparmor),
            },
            selinux: message.selinux,
        }
    }
}

impl From<&Device> for v1::Device {
    fn from(device: &Device) -> Self {
        let device = match device {
            Device::Path { host, container, permissions } => v1::device::Device::Path(v1::PathDevice {
                host: host.clone(),
                container: container.clone(),
                permissions: permissions.clone(),
            }),
            Device::Cdi(name) => v1::device::Device::Cdi(name.clone()),
        };
        Self { device: Some(device) }
    }
}

impl TryFrom<v1::Device> for Device {
    type Error = DecodeError;

    fn try_from(message: v1::Device) -> Result<Self, DecodeError> {
        Ok(match required("device", message.device)? {
            v1::device::Device::Path(path) => {
                Self::Path { host: path.host, container: path.container, permissions: path.permissions }
            }
            v1::device::Device::Cdi(name) => Self::Cdi(name),
        })
    }
}

impl From<NamespaceMode> for v1::NamespaceMode {
    fn from(mode: NamespaceMode) -> Self {
        match mode {
            NamespaceMode::Private => Self::Private,
            NamespaceMode::Host => Self::Host,
        }
    }
}

impl From<v1::NamespaceMode> for NamespaceMode {
    fn from(message: v1::NamespaceMode) -> Self {
        match message {
            v1::NamespaceMode::Private => Self::Private,
            v1::NamespaceMode::Host => Self::Host,
        }
    }
}
