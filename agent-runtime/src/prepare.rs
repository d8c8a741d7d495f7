//! What of a specification depends on the host: looked up, and refused by name where the host lacks it.

use crate::capability::Capabilities;
use crate::device::{self, Found};
use crate::error::RuntimeError;
use crate::seccomp;
use crate::spec::{ContainerSpec, Seccomp};
use crate::{cdi, selinux, validate};
use std::fs;
use std::path::{Path, PathBuf};

/// A specification that this host can carry out, as far as can be told beforehand.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// With what CDI devices need.
    pub(crate) spec: ContainerSpec,
    pub(crate) devices: Vec<Found>,
    /// Programs that CDI devices need run.
    pub(crate) hooks: Vec<cdi::Hook>,
    /// The compiled filter of system calls.
    pub(crate) seccomp: Option<String>,
}

/// Checks and looks up everything.
pub(crate) fn prepare(spec: &ContainerSpec, cdi_folders: &[PathBuf]) -> Result<Prepared, RuntimeError> {
    let mut spec = spec.clone();
    let hooks = cdi::apply(&mut spec, cdi_folders)?;
    validate::check(&spec)?;
    capabilities(spec.capabilities, Capabilities::available())?;
    let lsm = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    let lsm = lsm.trim() == "Y";
    // Everything is unconfined where there is nothing to confine it.
    spec.apparmor = spec.apparmor.filter(|profile| lsm || profile != "unconfined");
    apparmor(spec.apparmor.as_deref(), lsm)?;
    spec.selinux.as_ref().map_or(Ok(()), selinux::check_policy)?;
    let mut devices = if spec.privileged { device::all() } else { Vec::new() };
    for wanted in &spec.devices {
        let found = device::find(wanted)?;
        devices.retain(|known| found.iter().all(|found| found.path != known.path));
        devices.extend(found);
    }
    let seccomp = match &spec.seccomp {
        Seccomp::Default => Some(seccomp::default_filter(spec.capabilities)),
        Seccomp::Unconfined => None,
        Seccomp::Custom(profile) => Some(seccomp::custom_filter(profile, spec.capabilities)?),
    };
    if seccomp.is_some() && !Path::new("/proc/sys/kernel/seccomp").exists() {
        return Err(RuntimeError::Host("the kernel has no seccomp filters".into()));
    }
    Ok(Prepared { spec, devices, hooks, seccomp })
}

/// Nobody can give what they do not have.
fn capabilities(wanted: Capabilities, available: Capabilities) -> Result<(), RuntimeError> {
    let missing = wanted.missing_from(available);
    if missing == Capabilities::none() {
        return Ok(());
    }
    Err(RuntimeError::InvalidSpec {
        field: "capabilities",
        value: missing.to_string(),
        why: "the daemon of this node does not have them itself; run it with them, or use another node"
            .into(),
    })
}

fn apparmor(profile: Option<&str>, enabled: bool) -> Result<(), RuntimeError> {
    let refused = |value: &str, why: &str| {
        Err(RuntimeError::InvalidSpec {
            field: "AppArmor profile",
            value: value.to_owned(),
            why: why.to_owned(),
        })
    };
    match profile {
        None => Ok(()),
        Some(profile)
            if profile.is_empty() || profile.len() > 256 || profile.contains(char::is_whitespace) =>
        {
            refused(profile, "it must be the name of a loaded profile, without white space")
        }
        Some(profile) if !enabled => {
            refused(profile, "this node has no AppArmor; leave the profile out or use another node")
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_is_refused_by_name() {
        let wanted = Capabilities::none().with(["NET_ADMIN", "SYS_TIME"]).unwrap();
        let available = Capabilities::none().with(["NET_ADMIN"]).unwrap();
        let error = capabilities(wanted, available).unwrap_err();
        assert!(error.is_rejection() && error.to_string().contains("\"SYS_TIME\""), "{error}");
        capabilities(available, wanted).unwrap();
        apparmor(Some("mine"), true).unwrap();
        apparmor(None, false).unwrap();
        let error = apparmor(Some("mine"), false).unwrap_err();
        assert!(error.is_rejection() && error.to_string().contains("\"mine\""), "{error}");
        assert!(apparmor(Some("a b"), true).is_err());
    }
}
