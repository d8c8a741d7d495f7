//! Hooks of devices, and what they are told of the container.

use super::Input;
use crate::cdi::Hook;
use coracle_runtime_protocol as protocol;
use coracle_runtime_protocol::{HookPlace, HookState, Step};

/// Version of the OCI runtime specification that what hooks are told follows.
pub(crate) const OCI_VERSION: &str = "1.2.0";

/// Those in the host's namespaces first, as the specification has them ("Lifecycle"); else in the order of the devices.
pub(super) fn steps(input: &Input<'_>) -> impl Iterator<Item = Step> {
    let of = |place: HookPlace| input.hooks.iter().filter(move |hook| hook.place == place);
    of(HookPlace::Host).chain(of(HookPlace::Container)).map(|hook| step(input, hook))
}

fn step(input: &Input<'_>, hook: &Hook) -> Step {
    Step::Hook(Box::new(protocol::Hook {
        device: hook.device.clone(),
        place: hook.place,
        path: hook.path.clone(),
        arguments: hook.arguments.clone(),
        environment: hook.environment.clone(),
        seconds: hook.seconds,
        state: HookState {
            oci_version: OCI_VERSION.to_owned(),
            id: input.id.to_string(),
            status: "creating".to_owned(),
            pid: 0,
            bundle: input.directory.bundle(),
            root: input.directory.root(),
        },
    }))
}
