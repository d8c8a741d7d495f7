//! coracle-agent-runtime.
