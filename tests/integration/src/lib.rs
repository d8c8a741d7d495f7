//! coracle-integration.
