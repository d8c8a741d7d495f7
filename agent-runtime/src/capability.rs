//! Sets of capabilities (linux/capability.h).

use std::fmt;

/// Names by number.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's fourteen.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

/// The kernel has no capability of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("capability {0:?} is unknown; write a name like NET_ADMIN or CAP_NET_ADMIN, or ALL")]
pub struct UnknownCapability(String);

impl Capabilities {
    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// What a container's root has unless told otherwise.
    #[must_use]
    pub fn container_default() -> Self {
        Self(DEFAULT.iter().filter_map(|name| number(name)).fold(0, |mask, number| mask | 1 << number))
    }

    /// All that this process has, so that it can give them: every one, for an ordinary root.
    #[must_use]
    pub fn available() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let bits = permitted.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
        Self(bits & ((1 << NAMES.len()) - 1))
    }

    /// What both sets have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What this set has and the other lacks.
    #[must_use]
    pub fn missing_from(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// This set with further capabilities. `ALL` stands for every one.
    ///
    /// # Errors
    /// A name that the kernel does not know.
    pub fn with<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownCapability> {
        names.into_iter().try_fold(self, |set, name| Ok(Self(set.0 | mask(name)?)))
    }

    /// This set without some capabilities. `ALL` stands for every one.
    ///
    /// # Errors
    /// A name that the kernel does not know.
    pub fn without<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownCapability> {
        names.into_iter().try_fold(self, |set, name| Ok(Self(set.0 & !mask(name)?)))
    }

    /// One bit per capability number.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set has the capability of this name, without prefix.
    #[must_use]
    pub(crate) fn has(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }
}

fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

fn mask(name: &str) -> Result<u64, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" {
        return Ok((1 << NAMES.len()) - 1);
    }
    number(bare).map(|number| 1 << number).ok_or_else(|| UnknownCapability(name.to_owned()))
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().copied().filter(|name| self.has(name)).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_mask_is_dockers() {
        assert_eq!(Capabilities::container_default().bits(), 0xa804_25fb);
        let more = Capabilities::container_default().with(["cap_net_admin"]).unwrap();
        assert_eq!(more.bits(), 0xa804_35fb);
        assert_eq!(more.without(["ALL"]).unwrap(), Capabilities::none());
        assert!(more.with(["FLY"]).is_err());
        assert_eq!(Capabilities::none().with(["ALL"]).unwrap().bits(), 0x1ff_ffff_ffff);
    }
}
