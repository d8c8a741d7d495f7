//! Quantities and platforms.

use coracle_model::node::Platform;
use coracle_model::resources::{GenericResource, Limits, MemoryBytes, NanoCpus, Resources, Swap};

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
        Self {
            nano_cpus: limits.cpu.0,
            memory_bytes: limits.memory.0,
            pids: limits.pids,
            swap_bytes: match limits.swap {
                Swap::Default => None,
                Swap::Bytes(bytes) => Some(i64::try_from(bytes).unwrap_or(i64::MAX)),
                Swap::Unlimited => Some(-1),
            },
            swappiness: limits.swappiness,
            cpuset: limits.cpuset.clone(),
        }
    }
}

impl From<v1::Limits> for Limits {
    fn from(message: v1::Limits) -> Self {
        Self {
            cpu: NanoCpus(message.nano_cpus),
            memory: MemoryBytes(message.memory_bytes),
            pids: message.pids,
            swap: match message.swap_bytes {
                None => Swap::Default,
                Some(bytes) => u64::try_from(bytes).map_or(Swap::Unlimited, Swap::Bytes),
            },
            swappiness: message.swappiness,
            cpuset: message.cpuset,
        }
    }
}

impl From<&GenericResource> for v1::GenericResource {
    fn from(resource: &GenericResource) -> Self {
        match resource {
            GenericResource::Count(count) => Self { count: *count, names: Vec::new() },
            GenericResource::Named(names) => Self { count: 0, names: names.iter().cloned().collect() },
        }
    }
}

impl From<v1::GenericResource> for GenericResource {
    fn from(message: v1::GenericResource) -> Self {
        if message.names.is_empty() {
            Self::Count(message.count)
        } else {
            Self::Named(message.names.into_iter().collect())
        }
    }
}
