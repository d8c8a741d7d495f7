//! coracle-daemon.
