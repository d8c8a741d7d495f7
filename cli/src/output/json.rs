//! The JSON forms of objects: stable names, times as RFC 3339, quantities with their unit in the name.

mod container;
mod file;
mod image;
mod node;
mod service;
mod spec;
mod system;
mod task;
mod volume;

pub(crate) use file::{File, latest};
pub(crate) use image::Image;
pub(crate) use node::Node;
pub(crate) use service::{Service, ServiceRow};
pub(crate) use system::{Info, Loop, Version};
pub(crate) use task::Task;
pub(crate) use volume::{Volume, VolumeDetail};
