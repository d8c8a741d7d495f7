//! Graphics cards: `all`, a number, `device=0,1` or `none`, by the names that the vendor's CDI files give them.

use coracle_proto::v1;
use coracle_proto::v1::device::Device;

use super::FlagError;

const PREFIX: &str = "nvidia.com/gpu=";
/// More than any machine has.
const LIMIT: u32 = 64;

/// The names of the cards wanted; none of them takes away those of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpus(Vec<String>);

/// Reads the value of `--gpus`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<Gpus, FlagError> {
    let refuse = || FlagError::new("gpus", text, "use all, a number up to 64, device=NAME,NAME or none");
    let unquoted = text.trim_matches('"');
    if unquoted == "all" {
        return Ok(Gpus(vec!["all".to_owned()]));
    }
    if unquoted == "none" {
        return Ok(Gpus(Vec::new()));
    }
    if let Some(names) = unquoted.strip_prefix("device=") {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        return if names.iter().all(|name| !name.is_empty()) { Ok(Gpus(names)) } else { Err(refuse()) };
    }
    let number = unquoted.parse::<u32>().ok().filter(|number| *number <= LIMIT).ok_or_else(refuse)?;
    Ok(Gpus((0..number).map(|card| card.to_string()).collect()))
}

impl Gpus {
    /// Puts these cards in the place of those that are there.
    pub(crate) fn replace_in(&self, devices: &mut Vec<v1::Device>) {
        devices
            .retain(|device| !matches!(&device.device, Some(Device::Cdi(name)) if name.starts_with(PREFIX)));
        devices.extend(
            self.0.iter().map(|name| v1::Device { device: Some(Device::Cdi(format!("{PREFIX}{name}"))) }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opt::device::key;

    #[test]
    fn cards_are_named_as_cdi_has_them() {
        let named = |text: &str| {
            let mut devices = vec![v1::Device { device: Some(Device::Cdi("nvidia.com/gpu=9".to_owned())) }];
            parse(text).unwrap().replace_in(&mut devices);
            devices.iter().map(|device| key(device).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(named("all"), ["nvidia.com/gpu=all"]);
        assert_eq!(named("2"), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert_eq!(named("device=0,GPU-3a"), ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-3a"]);
        assert!(named("none").is_empty());
        assert!(parse("some").is_err() && parse("device=").is_err() && parse("65").is_err());
    }
}
