//! Quantities and platforms.

use coracle_model::node::Platform;
use coracle_model::resources::{Limits, MemoryBytes, NanoCpus, Resources};

use crate::v1;

impl From<&Platform> for v1::Platform {
    fn from(platform: &Platform) -> Self {
        Self { os: platform.os.clone(), architecture: platform.architecture.clone() }
    }
}

impl From<v1::Platform> for Platform {
    fn from(message: v1::Platform) -> Self {
        Self { os: message.os, architecture: message.architecture }
    }
}

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> Self {
        Self { nano_cpus: resources.cpu.0, memory_bytes: resources.memory.0 }
    }
}

impl From<v1::Resources> for Resources {
    fn from(message: v1::Resources) -> Self {
        Self { cpu: NanoCpus(message.nano_cpus), memory: MemoryBytes(message.memory_bytes) }
    }
}

impl From<&Limits> for v1::Limits {
    fn from(limits: &Limits) -> Self {
        Self { nano_cpus: limits.cpu.0, memory_bytes: limits.memory.0, pids: limits.pids }
    }
}

impl From<v1::Limits> for Limits {
    fn from(message: v1::Limits) -> Self {
        Self {
            cpu: NanoCpus(message.nano_cpus),
            memory: MemoryBytes(message.memory_bytes),
            pids: message.pids,
        }
    }
}
