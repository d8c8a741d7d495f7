//! The whole agent against a manager that a test plays, over real connections.

mod assignments;
mod fence;
mod health;
mod identity;
mod images;
pub(crate) mod manager;
mod offline;
mod real;
pub(crate) mod rig;
mod statuses;
mod volumes;
