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
