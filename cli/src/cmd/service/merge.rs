//! What an update makes of a specification: one pure function for each concern.
//!
//! Removals come first, so that removing and adding the same thing replaces it. Removing what is not there changes
//! nothing, as with Docker, so that a script can be run twice.

pub(crate) mod capabilities;
pub(crate) mod env;
pub(crate) mod labels;
pub(crate) mod list;
pub(crate) mod mount;
pub(crate) mod placement;
pub(crate) mod resources;
