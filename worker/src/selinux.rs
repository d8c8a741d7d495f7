//! SELinux labels of containers.
//!
//! - [`label`]: from what the service says and what the node's policy has to the labels of one container. Pure.
//! - [`levels`]: which level a task gets that names none: one that no other task of this node has.
//! - [`labelled`]: stands in front of the runtime and gives containers their labels.
//!
//! Whether a container is labelled at all: when its service says so, or when the daemon was started with
//! `--selinux-enabled`; never with `label=disable`.

pub(crate) mod label;
pub(crate) mod labelled;
mod levels;

pub use label::Labels;

/// What a usual policy with levels has for containers.
#[cfg(test)]
fn usual_defaults() -> coracle_agent_runtime::SelinuxDefaults {
    coracle_agent_runtime::SelinuxDefaults {
        process: "system_u:system_r:container_t:s0".into(),
        file: "system_u:object_r:container_file_t:s0".into(),
        layer: "system_u:object_r:container_ro_file_t:s0".into(),
        has_levels: true,
    }
}
