//! coracle-worker.
