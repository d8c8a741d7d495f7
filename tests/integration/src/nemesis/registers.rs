//! Labels of nodes as registers.

use coracle_history::Kind;
use coracle_proto::v1;
use coracle_proto::v1::nodes_client::NodesClient;

use super::client::{Client, Failure};

/// The nodes whose labels are used.
pub(super) const NODES: [&str; 2] = ["w1", "w2"];
/// The labels.
pub(super) const LABELS: [&str; 4] = ["one", "two", "three", "four"];

fn key(node: &str, label: &str) -> String {
    format!("{node}/{label}")
}

/// One operation.
pub(super) fn step(client: &mut Client) {
    let (Some(node), Some(label)) =
        (client.random.pick(&NODES).copied(), client.random.pick(&LABELS).copied())
    else {
        return;
    };
    match client.random.below(100) {
        // A failed read says nothing.
        0..40 => drop(read(client, node)),
        40..92 => {
            let value = client.new_value();
            let request = v1::UpdateNodeRequest {
                node: node.to_owned(),
                labels_set: [(label.to_owned(), value.clone())].into(),
                ..Default::default()
            };
            write(client, key(node, label), Some(value), request);
        }
        _ => {
            let request = v1::UpdateNodeRequest {
                node: node.to_owned(),
                labels_removed: vec![label.to_owned()],
                ..Default::default()
            };
            write(client, key(node, label), None, request);
        }
    }
}

/// A write cannot be repeated: nothing would tell the second from the first.
fn write(client: &mut Client, key: String, value: Option<String>, request: v1::UpdateNodeRequest) {
    let invoked_at = client.now();
    let outcome = client.ask(|channel| async move { NodesClient::new(channel).update(request).await });
    client.wrote(key, Kind::Write(value), invoked_at, outcome.map(|answer| answer.version));
}

/// Reads all registers of a node at once.
pub(super) fn read(client: &mut Client, node: &str) -> Result<(), Failure> {
    let invoked_at = client.now();
    let request = v1::GetNodeRequest { node: node.to_owned() };
    let answer = client.ask(|channel| async move { NodesClient::new(channel).get(request).await })?;
    let completed_at = client.now();
    let node_object = answer.node.and_then(|item| item.node);
    let labels = node_object.and_then(|node| node.spec).unwrap_or_default().labels;
    for label in LABELS {
        let value = labels.get(label).cloned();
        client.read(key(node, label), invoked_at, completed_at, answer.index, value);
    }
    // What nobody wrote must not be there either.
    for (label, value) in labels.iter().filter(|(label, _)| !LABELS.contains(&label.as_str())) {
        client.read(key(node, label), invoked_at, completed_at, answer.index, Some(value.clone()));
    }
    Ok(())
}
