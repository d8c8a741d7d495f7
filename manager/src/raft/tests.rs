//! Raft as a whole: openraft's storage suite on our store, and clusters of managers over real gRPC in one process.

mod cluster;
mod lab;
mod settings;
mod suite;
