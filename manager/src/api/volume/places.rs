//! Which nodes a request is about: those that are named, or those that have the volume; and who is not heard.

use std::collections::BTreeMap;

use coracle_model::node::{Node, NodeState};
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use super::{Seen, distinct};
use crate::api::resolve;
use crate::dispatcher::volumes::Place;

/// Nodes that a message lists.
const SHOWN: usize = 10;

fn place(node: &Node) -> Place {
    Place { node: node.id, hostname: node.description.hostname.clone() }
}

/// Their host names, for a message.
pub(super) fn list(places: &[Place]) -> String {
    names(places.iter().map(|place| place.hostname.as_str()))
}

fn names<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = all.take(SHOWN).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

impl Seen {
    /// All nodes, by host name.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.view.nodes().map(|node| place(node)).collect();
        places.sort_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
        places
    }

    /// Those that have told their volumes.
    pub(super) fn heard(&self) -> Vec<Place> {
        let mut places = self.places();
        places.retain(|place| self.broker.volumes(place.node).is_some());
        places
    }

    /// Those that have told of a volume of this name.
    pub(super) fn holders(&self, name: &str) -> Vec<Place> {
        let mut places = self.places();
        places.retain(|place| self.broker.volume(place.node, name).is_some());
        places
    }

    /// The one node that has it, or none: none means that no node that is heard has it.
    ///
    /// # Errors
    /// If several have it, with the list; or one has it and others are not heard, which may have one of this name too.
    pub(super) fn only_holder(&self, name: &str) -> Result<Option<Place>, ApiError> {
        let mut holders = self.holders(name);
        if holders.len() > 1 {
            let message = format!(
                "volume {name} is on {} nodes: {}; which one is meant?",
                holders.len(),
                list(&holders)
            );
            let hint = "name the node with --node (`coracle volume rm` also takes --all-nodes)";
            return Err(ApiError::new(Reason::Invalid, message).with_hint(hint));
        }
        let Some(only) = holders.pop() else { return Ok(None) };
        let mut silent = self.silent();
        // What it does not list beside this one is no second one.
        silent.retain(|node| node.node_id != only.node.to_string());
        if !silent.is_empty() {
            let hosts = names(silent.iter().map(|node| node.node_hostname.as_str()));
            let are = if silent.len() == 1 { "is" } else { "are" };
            let message = format!(
                "volume {name} is on {}, and {hosts} {are} not heard, which may have one too",
                only.hostname
            );
            let hint = "name the node with --node; see `coracle node ls`";
            return Err(ApiError::new(Reason::Invalid, message).with_hint(hint));
        }
        Ok(Some(only))
    }

    /// The node of a reference.
    pub(super) fn one(&self, reference: &str) -> Result<Place, ApiError> {
        resolve::node_or_self(&self.view, reference, self.asked).map(|node| place(&node))
    }

    /// The nodes of references, each once.
    pub(super) fn named(&self, references: &[String]) -> Result<Vec<Place>, ApiError> {
        let mut places = BTreeMap::new();
        for reference in distinct(references)? {
            let place = self.one(reference)?;
            places.insert(place.node, place);
        }
        Ok(places.into_values().collect())
    }

    /// Nodes whose volumes are not all known, and why.
    pub(super) fn silent(&self) -> Vec<v1::SilentNode> {
        let mut silent = Vec::new();
        for place in self.places() {
            let message = match self.broker.volumes(place.node) {
                Some((_, 0)) => continue,
                Some((_, omitted)) => format!("{omitted} more volumes are not listed: there are too many"),
                None => self.why_silent(&place),
            };
            let (node_id, node_hostname) = (place.node.to_string(), place.hostname);
            silent.push(v1::SilentNode { node_id, node_hostname, message });
        }
        silent
    }

    fn why_silent(&self, place: &Place) -> String {
        match self.view.node(place.node).map(|node| node.status.state) {
            Some(NodeState::Ready) => "it has not told its volumes to this leader yet".to_owned(),
            Some(NodeState::Down) => "it is down".to_owned(),
            _ => "it is not connected".to_owned(),
        }
    }

    /// No node that is heard has a volume of this name.
    pub(super) fn nowhere(&self, name: &str) -> ApiError {
        let silent = self.silent();
        if silent.is_empty() {
            return ApiError::new(Reason::NotFound, format!("no node has a volume {name:?}"))
                .with_hint("see `coracle volume ls`");
        }
        let hosts = names(silent.iter().map(|node| node.node_hostname.as_str()));
        ApiError::new(Reason::NotFound, format!("no node that is heard has a volume {name:?}"))
            .with_hint(format!("not heard: {hosts}; see `coracle node ls`"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_lists_are_cut() {
        let hosts: Vec<String> = (0..12).map(|number| format!("w{number}")).collect();
        let all = super::names(hosts.iter().map(String::as_str));
        assert_eq!(all, "w0, w1, w2, w3, w4, w5, w6, w7, w8, w9 and 2 more");
        assert_eq!(super::names(["a"].into_iter()), "a");
    }
}
