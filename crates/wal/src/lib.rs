//! coracle-wal.
