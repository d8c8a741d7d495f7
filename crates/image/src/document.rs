//! The JSON documents of an image, read into closed structs.
//!
//! Sources: OCI image specification 1.1 (descriptor, manifest, image index, configuration) and the Docker image manifest version 2, schema 2.

pub mod config;
pub mod platform;

pub(crate) mod config_fields;
pub(crate) mod manifest;
#[cfg(test)]
mod tests;
