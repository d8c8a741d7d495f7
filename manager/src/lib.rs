//! coracle-manager.
