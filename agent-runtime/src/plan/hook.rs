//! Hooks of devices, and what they are told of the container.

use super::Input;
use crate::cdi::Hook;
use coracle_runtime_protocol as protocol;
use coracle_runtime_protocol::{HookState, Step};
use std::time::Duration;

/// Version of the OCI runtime specification that what hooks are told follows.
pub(crate) const OCI_VERSION: &str = "1.2.0";

/// What is left of the time limit after the last hook: for ending one that does not end, and for telling which one it was.
const RESERVE: Duration = Duration::from_secs(10);

/// The time that all hooks have together.
pub(super) fn milliseconds(setup_timeout: Duration) -> u64 {
    let common = setup_timeout.saturating_sub(RESERVE).max(setup_timeout / 2);
    u64::try_from(common.as_millis()).unwrap_or(u64::MAX)
}

/// In the order of the specification ("Lifecycle"); those of one kind in the order of the devices.
pub(super) fn steps(input: &Input<'_>) -> impl Iterator<Item = Step> {
    let mut hooks: Vec<&Hook> = input.hooks.iter().collect();
    hooks.sort_by_key(|hook| hook.when);
    hooks.into_iter().map(|hook| step(input, hook))
}

fn step(input: &Input<'_>, hook: &Hook) -> Step {
    Step::Hook(Box::new(protocol::Hook {
        device: hook.device.clone(),
        place: hook.when.place(),
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
