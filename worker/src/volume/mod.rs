//! Named volumes of this node: folders that outlive the tasks that use them.
//!
//! - [`VolumeStore`]: what there is; making and removing it, and in `transfer` saving and restoring.
//! - `usage`: which tasks use what. `hold`: nobody else works on what somebody works on.
//! - `disk`: how a volume lies on disk, and the order in which it becomes durable.
//! - `mounted`: stands before the container runtime and gives containers their volumes.
//! - `image_view`: what an image has at a path, for filling new volumes.
//!
//! The truth is on this node's disk alone: no manager decides which volumes there are.
//!
//! **Invariant:** a volume is there whole or not at all, whenever the process is killed; and none is removed or replaced while
//! a container that mounts it has not been deleted.

mod disk;
mod error;
mod hold;
mod image_view;
pub(crate) mod mounted;
mod store;
mod transfer;
mod usage;

pub use coracle_image::tree::{TreeReport, TreeSize};
pub use error::VolumeError;
pub use store::{Pruned, VolumeInfo, VolumeStore, VolumeUser};

#[cfg(test)]
mod tests;
