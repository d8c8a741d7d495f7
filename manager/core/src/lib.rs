//! The pure heart of the manager.
