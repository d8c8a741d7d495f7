//! What the tasks on a node take up, kept up to date with every write to a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_model::node::Node;
use coracle_model::placement::HostPort;
use coracle_model::resources::{GenericResource, Resources};
use coracle_model::service::TaskSpec;

/// What the tasks that may run on a node take up; tasks that are being stopped count until they are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeUsage {
    /// Their reservations, summed up.
    pub reserved: Resources,
    /// How many they are.
    pub tasks: u64,
    /// What few tasks have; apart, so that a node without costs nothing.
    claims: Option<Arc<Claims>>,
}

/// What a task has for itself alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Claims {
    generic: BTreeMap<String, Taken>,
    ports: BTreeSet<HostPort>,
}

/// What is taken of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Taken {
    /// How many, named or not.
    count: u64,
    /// Which, as far as they have names.
    names: BTreeSet<String>,
}

impl Claims {
    fn add(&mut self, spec: &TaskSpec, generic: &BTreeMap<String, Vec<String>>) {
        for (kind, count) in wanted(spec) {
            let taken = self.generic.entry(kind.clone()).or_default();
            taken.count += count;
            taken.names.extend(names_of(generic, kind).cloned());
        }
        self.ports.extend(&spec.placement.host_ports);
    }

    fn remove(&mut self, spec: &TaskSpec, generic: &BTreeMap<String, Vec<String>>) {
        for (kind, count) in wanted(spec) {
            let Some(taken) = self.generic.get_mut(kind) else { continue };
            taken.count = taken.count.saturating_sub(count);
            for name in names_of(generic, kind) {
                taken.names.remove(name);
            }
            if taken.count == 0 {
                self.generic.remove(kind);
            }
        }
        for port in &spec.placement.host_ports {
            self.ports.remove(port);
        }
    }
}

/// The kinds of which the task wants any, with how many.
fn wanted(spec: &TaskSpec) -> impl Iterator<Item = (&String, u64)> {
    spec.generic.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (kind, *count))
}

/// Names that a task was given of a kind. What is a number is how many it has of things without names.
fn names_of<'a>(generic: &'a BTreeMap<String, Vec<String>>, kind: &str) -> impl Iterator<Item = &'a String> {
    generic.get(kind).into_iter().flatten().filter(|name| name.parse::<u64>().is_err())
}

/// Whether the task has anything for itself alone.
fn has_claims(spec: &TaskSpec) -> bool {
    wanted(spec).next().is_some() || !spec.placement.host_ports.is_empty()
}

impl NodeUsage {
    pub(crate) fn with(mut self, spec: &TaskSpec, generic: &BTreeMap<String, Vec<String>>) -> Self {
        self.reserved = self.reserved.plus(spec.reservations);
        self.tasks += 1;
        if has_claims(spec) {
            Arc::make_mut(self.claims.get_or_insert_default()).add(spec, generic);
        }
        self
    }

    pub(super) fn without(mut self, spec: &TaskSpec, generic: &BTreeMap<String, Vec<String>>) -> Self {
        self.reserved = self.reserved.minus(spec.reservations);
        self.tasks = self.tasks.saturating_sub(1);
        if let Some(claims) = self.claims.as_mut().filter(|_| has_claims(spec)) {
            Arc::make_mut(claims).remove(spec, generic);
            if **claims == Claims::default() {
                self.claims = None;
            }
        }
        self
    }

    /// Whether it is plain that the node has all of this, from the sums alone.
    pub(crate) fn is_within(&self, node: &Node) -> bool {
        let has = node.description.resources;
        let plain = self.claims.as_ref().is_none_or(|claims| claims.generic.is_empty());
        plain && self.reserved.cpu <= has.cpu && self.reserved.memory <= has.memory
    }

    /// How many of a kind the node has left.
    #[must_use]
    pub fn generic_left(&self, node: &Node, kind: &str) -> u64 {
        let taken = self.claims.as_ref().and_then(|claims| claims.generic.get(kind));
        let Some(has) = node.description.generic.get(kind) else { return 0 };
        let Some(taken) = taken else { return has.count() };
        let left = has.count().saturating_sub(taken.count);
        match has {
            GenericResource::Count(_) => left,
            // A task may hold a name that the node had before it was described anew.
            GenericResource::Named(names) => left.min(names.difference(&taken.names).count() as u64),
        }
    }

    /// What a task gets of the node's other things: the first free names, or the number of what has none.
    /// Nothing where there is not enough.
    #[must_use]
    pub fn choose(&self, node: &Node, spec: &TaskSpec) -> Option<BTreeMap<String, Vec<String>>> {
        wanted(spec).map(|(kind, count)| Some((kind.clone(), self.choose_kind(node, kind, count)?))).collect()
    }

    fn choose_kind(&self, node: &Node, kind: &str, count: u64) -> Option<Vec<String>> {
        if self.generic_left(node, kind) < count {
            return None;
        }
        match node.description.generic.get(kind)? {
            GenericResource::Count(_) => Some(vec![count.to_string()]),
            GenericResource::Named(names) => {
                let taken = self.claims.as_ref().and_then(|claims| claims.generic.get(kind));
                let free = names.iter().filter(|name| taken.is_none_or(|taken| !taken.names.contains(*name)));
                Some(free.take(usize::try_from(count).unwrap_or(usize::MAX)).cloned().collect())
            }
        }
    }

    /// Whether these are free things of the node, as many as the task wants, each once.
    #[must_use]
    pub fn permits(&self, node: &Node, spec: &TaskSpec, given: &BTreeMap<String, Vec<String>>) -> bool {
        given.keys().all(|kind| spec.generic.get(kind).is_some_and(|count| *count > 0))
            && wanted(spec).all(|(kind, count)| {
                let given = given.get(kind).map_or(&[][..], Vec::as_slice);
                self.generic_left(node, kind) >= count && self.permits_kind(node, kind, count, given)
            })
    }

    fn permits_kind(&self, node: &Node, kind: &str, count: u64, given: &[String]) -> bool {
        match node.description.generic.get(kind) {
            None => false,
            Some(GenericResource::Count(_)) => given.iter().eq([&count.to_string()]),
            Some(GenericResource::Named(names)) => {
                let taken = self.claims.as_ref().and_then(|claims| claims.generic.get(kind));
                let free = |name: &&String| {
                    names.contains(*name) && taken.is_none_or(|taken| !taken.names.contains(*name))
                };
                let distinct: BTreeSet<&String> = given.iter().filter(free).collect();
                given.len() as u64 == count && distinct.len() == given.len()
            }
        }
    }

    /// The first port of these that a task on the node has.
    #[must_use]
    pub fn taken_port(&self, wanted: &BTreeSet<HostPort>) -> Option<HostPort> {
        let taken = &self.claims.as_ref()?.ports;
        wanted.iter().find(|port| taken.contains(port)).copied()
    }

    /// The fuller half of what is reserved of a node, in millionths: of its processors or of its memory.
    pub(crate) fn fullness(&self, node: &Node) -> u64 {
        let share = |taken: u64, all: u64| {
            u64::try_from(u128::from(taken) * 1_000_000 / u128::from(all.max(1))).unwrap_or(u64::MAX)
        };
        let all = node.description.resources;
        share(self.reserved.cpu.0, all.cpu.0).max(share(self.reserved.memory.0, all.memory.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::digest::Digest;
    use coracle_model::service::{ContainerSpec, PinnedImage};

    fn spec(kind: &str, count: u64) -> TaskSpec {
        let image = PinnedImage { reference: "app:1".to_owned(), digest: Digest::from_bytes([1; 32]) };
        let mut spec = TaskSpec::of(ContainerSpec::of(image));
        spec.generic.insert(kind.to_owned(), count);
        spec
    }

    fn given(kind: &str, names: &[&str]) -> BTreeMap<String, Vec<String>> {
        [(kind.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())].into()
    }

    #[test]
    fn what_comes_goes() {
        let (gpu, ssd) = (spec("GPU", 1), spec("SSD", 2));
        let used = NodeUsage::default().with(&gpu, &given("GPU", &["a"])).with(&ssd, &given("SSD", &["2"]));
        let left = used.without(&gpu, &given("GPU", &["a"])).without(&ssd, &given("SSD", &["2"]));
        assert_eq!(left, NodeUsage::default());
    }
}
