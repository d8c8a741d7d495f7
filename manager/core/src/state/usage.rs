//! What the tasks on a node take up, kept up to date with every write to a task.

use coracle_model::resources::Resources;

/// What the tasks that may run on a node take up; tasks that are being stopped count until they are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeUsage {
    /// Their reservations, summed up.
    pub reserved: Resources,
    /// How many they are.
    pub tasks: u64,
}

impl NodeUsage {
    pub(crate) fn with(self, reservations: Resources) -> Self {
        Self { reserved: self.reserved.plus(reservations), tasks: self.tasks + 1 }
    }

    pub(super) fn without(self, reservations: Resources) -> Self {
        Self { reserved: self.reserved.minus(reservations), tasks: self.tasks.saturating_sub(1) }
    }
}
