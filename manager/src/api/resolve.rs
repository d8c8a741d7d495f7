//! References of operators: a whole id, then a whole name, then a prefix of an id that only one object has.

use std::sync::Arc;

use coracle_manager_core::state::State;
use coracle_model::id::NodeId;
use coracle_model::node::Node;
use coracle_model::secret::{File, FileKind};
use coracle_model::service::Service;
use coracle_model::similar;
use coracle_model::task::Task;
use coracle_proto::status::{ApiError, Reason};

/// Candidates that an ambiguous reference lists.
const CANDIDATES: usize = 5;

struct Candidate<T> {
    id: String,
    name: String,
    object: T,
}

fn choose<T>(
    kind: &str,
    reference: &str,
    candidates: impl Iterator<Item = Candidate<T>>,
) -> Result<T, ApiError> {
    if reference.is_empty() {
        return Err(ApiError::new(
            Reason::Invalid,
            format!("{kind}: invalid value \"\": give an id or a name"),
        ));
    }
    let (mut named, mut prefixed, mut nearest) = (Vec::new(), Vec::new(), None);
    for candidate in candidates {
        if candidate.id == reference {
            return Ok(candidate.object);
        }
        if candidate.name == reference {
            named.push(candidate);
        } else if candidate.id.starts_with(reference) {
            prefixed.push(candidate);
        } else if let Some(distance) = similar::distance(reference, &candidate.name)
            && nearest.as_ref().is_none_or(|(least, _)| distance < *least)
        {
            nearest = Some((distance, candidate.name));
        }
    }
    let mut matching = if named.is_empty() { prefixed } else { named };
    match matching.len() {
        0 => {
            let meant = nearest.map(|(_, name)| format!("did you mean {name:?}? ")).unwrap_or_default();
            let hint = format!("{meant}see `{}`", list_of(kind));
            Err(ApiError::new(Reason::NotFound, format!("no {kind} {reference:?}")).with_hint(hint))
        }
        1 => Ok(matching.remove(0).object),
        count => {
            let listed: Vec<_> =
                matching.iter().take(CANDIDATES).map(|c| format!("{} ({})", c.id, c.name)).collect();
            let more = if count > CANDIDATES { ", …" } else { "" };
            let message =
                format!("{kind} {reference:?} is ambiguous: it stands for {}{more}", listed.join(", "));
            Err(ApiError::new(Reason::Invalid, message).with_hint("use more characters of the id"))
        }
    }
}

/// The command that lists what there is of a kind.
fn list_of(kind: &str) -> String {
    match kind {
        "task" => "coracle service ps SERVICE".to_owned(),
        kind => format!("coracle {kind} ls"),
    }
}

/// The service that a reference stands for.
///
/// # Errors
/// If there is none, or more than one.
pub fn service(state: &State, reference: &str) -> Result<Arc<Service>, ApiError> {
    // The usual cases cost no look at every service.
    let whole = reference.parse().ok().and_then(|id| state.service(id));
    let named = || reference.parse().ok().and_then(|name| state.service_by_name(&name));
    if let Some(service) = whole.or_else(named) {
        return Ok(Arc::clone(service));
    }
    let candidates = state.services().map(|service| Candidate {
        id: service.id.to_string(),
        name: service.spec.name.to_string(),
        object: Arc::clone(service),
    });
    choose("service", reference, candidates)
}

/// The node that a reference stands for; host names count as names.
///
/// # Errors
/// If there is none, or more than one.
pub fn node(state: &State, reference: &str) -> Result<Arc<Node>, ApiError> {
    if let Some(node) = reference.parse().ok().and_then(|id| state.node(id)) {
        return Ok(Arc::clone(node));
    }
    let candidates = state.nodes().map(|node| Candidate {
        id: node.id.to_string(),
        name: node.description.hostname.clone(),
        object: Arc::clone(node),
    });
    choose("node", reference, candidates)
}

/// The same, where "self" is the node that was `asked`.
///
/// # Errors
/// If there is none, or more than one.
pub fn node_or_self(state: &State, reference: &str, asked: NodeId) -> Result<Arc<Node>, ApiError> {
    if reference != "self" {
        return node(state, reference);
    }
    let own = state.node(asked).cloned();
    own.ok_or_else(|| {
        ApiError::new(Reason::NotFound, "this node is not a member of the cluster (any more)")
            .with_hint("see `coracle system info` on it, and `coracle node ls` on another manager")
    })
}

/// The task that a reference stands for.
///
/// # Errors
/// If there is none, or more than one.
pub fn task(state: &State, reference: &str) -> Result<Arc<Task>, ApiError> {
    if let Some(task) = reference.parse().ok().and_then(|id| state.task(id)) {
        return Ok(Arc::clone(task));
    }
    let candidates = state.tasks().map(|task| {
        let service =
            state.service(task.service).map_or_else(|| task.service.to_string(), |s| s.spec.name.to_string());
        Candidate {
            id: task.id.to_string(),
            name: format!("{service}.{}.{}", task.slot, task.id),
            object: Arc::clone(task),
        }
    });
    choose("task", reference, candidates)
}

/// The secret or config that a reference stands for.
///
/// # Errors
/// If there is none, or more than one.
pub fn file(state: &State, kind: FileKind, reference: &str) -> Result<Arc<File>, ApiError> {
    let candidates = state.files().filter(|file| file.kind == kind).map(|file| Candidate {
        id: file.id.to_string(),
        name: file.name.to_string(),
        object: Arc::clone(file),
    });
    choose(kind.as_str(), reference, candidates)
}

#[cfg(test)]
mod tests {
    use super::super::world::{node as named, state, told};
    use super::*;

    fn pick(reference: &str) -> String {
        let all = [("abc1", "web"), ("abd2", "db"), ("xyz", "abc")];
        let candidates = all.iter().map(|(id, name)| Candidate {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            object: *id,
        });
        match choose("service", reference, candidates) {
            Ok(found) => found.to_owned(),
            outcome => told(outcome),
        }
    }

    #[test]
    fn ids_come_before_names_and_names_before_prefixes() {
        assert_eq!(pick("abc1"), "abc1");
        assert_eq!(pick("abc"), "xyz");
        assert_eq!(pick("abd"), "abd2");
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_refused() {
        assert_eq!(pick("q"), "no service \"q\"\nhint: see `coracle service ls`");
        assert_eq!(pick("wb"), "no service \"wb\"\nhint: did you mean \"web\"? see `coracle service ls`");
        assert_eq!(
            pick("ab"),
            "service \"ab\" is ambiguous: it stands for abc1 (web), abd2 (db)\nhint: use more characters of the id"
        );
        assert_eq!(pick(""), "service: invalid value \"\": give an id or a name");
        let view = state(vec![coracle_manager_core::Change::CreateNode(named(7, "worker-1"))]);
        assert_eq!(
            told(node(&view, "worker-2")),
            "no node \"worker-2\"\nhint: did you mean \"worker-1\"? see `coracle node ls`"
        );
        assert_eq!(told(task(&view, "web.1")), "no task \"web.1\"\nhint: see `coracle service ps SERVICE`");
        assert_eq!(
            told(node_or_self(&view, "self", NodeId::from_bits(8))),
            "this node is not a member of the cluster (any more)\nhint: see `coracle system info` on it, and `coracle node ls` on \
             another manager"
        );
    }
}
