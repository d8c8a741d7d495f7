//! What this machine says of itself.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use coracle_model::node::{NodeDescription, Platform};
use coracle_model::resources::{MemoryBytes, NanoCpus, Resources};

use super::DaemonArgs;

/// The node's description, from the kernel and the command line.
///
/// # Errors
/// If an engine label or a generic resource cannot be read.
pub(super) fn describe(args: &DaemonArgs) -> anyhow::Result<NodeDescription> {
    Ok(NodeDescription {
        hostname: args.hostname.clone().unwrap_or_else(hostname),
        platform: platform(),
        resources: resources(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: labels(&args.engine_labels)?,
        generic: coracle_model::generic::parse(&args.generic_resources)?,
    })
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Operating system and architecture in OCI words.
pub(super) fn platform() -> Platform {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    Platform {
        os: "linux".to_owned(),
        architecture: coracle_model::constraint::normal_architecture(&machine),
    }
}

fn resources() -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let info = rustix::system::sysinfo();
    let memory = info.totalram as u64 * u64::from(info.mem_unit);
    Resources { cpu: NanoCpus(cpus * 1_000_000_000), memory: MemoryBytes(memory) }
}

/// Version of the running kernel.
pub(super) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            bail!("engine-label: invalid value {text:?}: use KEY=VALUE");
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    coracle_model::validate::labels("engine-label", &labels).context("engine labels")?;
    Ok(labels)
}
