//! What a container is told of the things of its node that it has for itself.

use std::collections::BTreeMap;

use coracle_model::security::Device;

/// Adds `DOCKER_RESOURCE_KIND` and `CORACLE_RESOURCE_KIND` for each kind: the names, or the number of what has none.
///
/// The first is Docker's, with the kind in capitals and otherwise as it is; in the second what may not be in the name of a
/// shell's variable becomes `_`. They take the place of variables that service and image have under these names: a task
/// must not be told of things that are another's.
pub(super) fn with_variables(
    mut environment: Vec<String>,
    generic: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    for (kind, names) in generic {
        let kind = kind.to_ascii_uppercase();
        let plain: String = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        for name in [format!("DOCKER_RESOURCE_{kind}"), format!("CORACLE_RESOURCE_{plain}")] {
            environment.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
            environment.push(format!("{name}={}", names.join(",")));
        }
    }
    environment
}

/// Adds the devices that the task has for itself: things with names, of a kind that is written as the kinds of CDI files are,
/// `VENDOR/CLASS`. So a service that sets aside one card gets the device of that card, and not the one of another task.
pub(super) fn with_devices(mut devices: Vec<Device>, generic: &BTreeMap<String, Vec<String>>) -> Vec<Device> {
    for (kind, names) in generic.iter().filter(|(kind, _)| kind.contains('/')) {
        // A number is a count: nothing says which ones they are.
        for name in names.iter().filter(|name| name.parse::<u64>().is_err()) {
            let device = Device::Cdi(format!("{kind}={name}"));
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_of_the_task_are_its_devices() {
        let generic = [
            ("nvidia.com/gpu".to_owned(), vec!["GPU-1".to_owned(), "GPU-2".to_owned()]),
            ("vendor.com/port".to_owned(), vec!["3".to_owned()]),
            ("SSD".to_owned(), vec!["left".to_owned()]),
        ];
        let cdi = |name: &str| Device::Cdi(name.to_owned());
        let devices = vec![cdi("nvidia.com/gpu=GPU-2"), cdi("other.com/x=0")];
        assert_eq!(
            with_devices(devices, &generic.into()),
            [cdi("nvidia.com/gpu=GPU-2"), cdi("other.com/x=0"), cdi("nvidia.com/gpu=GPU-1")]
        );
    }

    #[test]
    fn names_and_numbers_are_told_and_cannot_be_forged() {
        let generic = [
            ("gpu-x".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("SSD".to_owned(), vec!["2".to_owned()]),
        ];
        let environment = vec!["A=1".to_owned(), "DOCKER_RESOURCE_SSD=9".to_owned()];
        assert_eq!(
            with_variables(environment, &generic.into()),
            [
                "A=1",
                "DOCKER_RESOURCE_SSD=2",
                "CORACLE_RESOURCE_SSD=2",
                "DOCKER_RESOURCE_GPU-X=a,b",
                "CORACLE_RESOURCE_GPU_X=a,b",
            ]
        );
        assert_eq!(with_variables(Vec::new(), &BTreeMap::new()), Vec::<String>::new());
    }
}
