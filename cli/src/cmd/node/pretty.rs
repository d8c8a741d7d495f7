//! A node for people, one thing in a line.

use coracle_model::resources::{MemoryBytes, NanoCpus};
use coracle_proto::v1;

use super::ls::manager_status;
use crate::output::lines::Lines;
use crate::output::{time, words};

/// The whole text.
pub(crate) fn describe(item: &v1::NodeListItem) -> String {
    let node = item.node.clone().unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let mut lines = Lines::default();
    lines.add("ID", node.id);
    lines.add("Hostname", description.hostname);
    lines.add("Joined at", time::seconds(node.created_at));
    lines.sorted("Label", &spec.labels);
    lines.sorted("Engine label", &description.labels);
    lines.add("Role", words::role(spec.role));
    lines.add("Availability", words::capital(words::availability(spec.availability)));
    let since = match status.since {
        0 => String::new(),
        at => format!(" since {}", time::seconds(at)),
    };
    let why = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    lines.add("Status", format!("{}{since}{why}", words::capital(words::node_state(status.state))));
    lines.add("Address", status.address);
    lines.add("Manager", manager_status(item));
    lines.add("Manager address", node.manager.map(|manager| manager.address).unwrap_or_default());
    let platform = description.platform.unwrap_or_default();
    lines.add("Platform", format!("{}/{}", platform.os, platform.architecture));
    let resources = description.resources.unwrap_or_default();
    lines.add("Processors", NanoCpus(resources.nano_cpus).to_string());
    lines.add("Memory", MemoryBytes(resources.memory_bytes).to_string());
    let mut generic: Vec<_> = description.generic.iter().map(|(kind, held)| held_of(kind, held)).collect();
    generic.sort();
    lines.all("Generic resource", generic);
    lines.add("Engine version", description.engine_version);
    lines.text()
}

fn held_of(kind: &str, held: &v1::GenericResource) -> String {
    if held.names.is_empty() {
        format!("{kind}={}", held.count)
    } else {
        format!("{kind}={}", held.names.join(","))
    }
}
