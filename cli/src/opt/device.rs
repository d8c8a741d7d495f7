//! Devices of the node: `/dev/fuse`, `/dev/sda:/dev/disk:r`, or the name of a CDI device, `vendor.com/class=name`.

use std::fmt;
use std::str::FromStr;

use coracle_proto::v1;
use coracle_proto::v1::device::Device;

use super::FlagError;

/// One device as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceFlag(pub v1::Device);

impl FromStr for DeviceFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let refuse = || {
            let problem = "use PATH, PATH:PATH-INSIDE or PATH:PATH-INSIDE:PERMISSIONS with any of r, w and m, or a CDI \
                           device such as vendor.com/class=name";
            FlagError::new("device", text, problem)
        };
        if !text.starts_with('/') {
            let named =
                text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty());
            let device = Some(Device::Cdi(text.to_owned()));
            return if named { Ok(Self(v1::Device { device })) } else { Err(refuse()) };
        }
        let parts: Vec<&str> = text.split(':').collect();
        let permissions_of = |text: &str| {
            !text.is_empty()
                && text.len() <= 3
                && text.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm'))
        };
        let (host, container, permissions) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, container] if container.starts_with('/') => (host, container, "rwm"),
            [host, permissions] if permissions_of(permissions) => (host, host, permissions),
            [host, container, permissions] if container.starts_with('/') && permissions_of(permissions) => {
                (host, container, permissions)
            }
            _ => return Err(refuse()),
        };
        let path = v1::PathDevice {
            host: host.to_owned(),
            container: container.to_owned(),
            permissions: permissions.to_owned(),
        };
        Ok(Self(v1::Device { device: Some(Device::Path(path)) }))
    }
}

/// What a removal names a device by: its path in the container, or its CDI name.
pub(crate) fn key(device: &v1::Device) -> &str {
    match &device.device {
        Some(Device::Path(path)) => &path.container,
        Some(Device::Cdi(name)) => name,
        None => "",
    }
}

impl fmt::Display for DeviceFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.device {
            Some(Device::Path(path)) => write!(f, "{}:{}:{}", path.host, path.container, path.permissions),
            Some(Device::Cdi(name)) => f.write_str(name),
            None => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_spellings_are_read() {
        for (text, shown) in [
            ("/dev/fuse", "/dev/fuse:/dev/fuse:rwm"),
            ("/dev/fuse:r", "/dev/fuse:/dev/fuse:r"),
            ("/dev/sda:/dev/disk", "/dev/sda:/dev/disk:rwm"),
            ("/dev/sda:/dev/disk:rw", "/dev/sda:/dev/disk:rw"),
            ("nvidia.com/gpu=all", "nvidia.com/gpu=all"),
        ] {
            assert_eq!(text.parse::<DeviceFlag>().unwrap().to_string(), shown);
        }
        for text in ["", "dev", "/dev/a:x", "/dev/a:/b:q", "/a:/b:r:w", "nvidia.com/gpu", "gpu=1"] {
            let error = text.parse::<DeviceFlag>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("device: invalid value {text:?}: use PATH")), "{error}");
        }
    }
}
