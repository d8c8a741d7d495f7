//! Groups that found no node in this pass, so that others that ask for the same are not taken to every node again.

use super::group::Group;

/// What found no node, and why. In one pass nodes only fill up: what did not fit does not fit later.
#[derive(Debug, Default)]
pub(super) struct Unfit<'a>(Vec<(Group<'a>, String)>);

impl<'a> Unfit<'a> {
    /// Why a group cannot have a node, where one that asks for the same could not.
    pub(super) fn reason(&self, group: &Group<'_>) -> Option<&str> {
        let same = |(other, _): &&(Group<'a>, String)| asks_the_same(other, group);
        self.0.iter().find(same).filter(|_| is_only_about_nodes(group)).map(|(_, reason)| reason.as_str())
    }

    pub(super) fn add(&mut self, group: &Group<'a>, reason: String) {
        if is_only_about_nodes(group) {
            self.0.push((group.without_tasks(), reason));
        }
    }
}

/// Whether nothing but the nodes themselves decides, not what else the service has there.
fn is_only_about_nodes(group: &Group<'_>) -> bool {
    group.placement.max_replicas_per_node == 0 && group.apart.is_empty()
}

fn asks_the_same(one: &Group<'_>, other: &Group<'_>) -> bool {
    one.spec.reservations == other.spec.reservations
        && one.spec.generic == other.spec.generic
        && one.spec.placement.host_ports == other.spec.placement.host_ports
        && one.placement.constraints == other.placement.constraints
        && one.platform == other.platform
}
