//! Operating system and architecture of an image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A platform in the words of image documents, which are Go's: `linux/amd64`, `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The instruction set.
    pub architecture: String,
    /// A variant of the instruction set, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }

    /// Whether an image for `self` runs on a machine of platform `machine`. `arm64` and `arm64/v8` are the same;
    /// a 32-bit ARM machine also runs earlier variants.
    pub fn runs_on(&self, machine: &Self) -> bool {
        let level = |platform: &Self| match (&*platform.architecture, platform.variant.as_deref()) {
            ("arm64", None) => Some(8),
            ("arm", None) => Some(7),
            (_, None) => Some(0),
            (_, Some(variant)) => variant.strip_prefix('v').and_then(|number| number.parse::<u8>().ok()),
        };
        let same = self.os == machine.os && self.architecture == machine.architecture;
        same && match (level(self), level(machine)) {
            (Some(image), Some(machine)) => image <= machine,
            _ => self.variant == machine.variant,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        }
    }

    #[test]
    fn compatibility() {
        assert!(platform("arm64", Some("v8")).runs_on(&platform("arm64", None)));
        assert!(platform("arm64", None).runs_on(&platform("arm64", Some("v8"))));
        assert!(platform("arm", Some("v6")).runs_on(&platform("arm", Some("v7"))));
        assert!(!platform("arm", Some("v7")).runs_on(&platform("arm", Some("v6"))));
        assert!(!platform("amd64", Some("v3")).runs_on(&platform("amd64", None)));
        assert!(!platform("arm64", None).runs_on(&platform("amd64", None)));
        assert!(Platform::host().runs_on(&Platform::host()));
    }
}
