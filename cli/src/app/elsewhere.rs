//! Commands that other programs have: what to use instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words of Docker's and Kubernetes' command lines, with what does here what is meant.
const INSTEAD: [(&[&str], &str); 8] = [
    (&["stack", "compose"], "there are no stacks; make each service with `coracle service create`"),
    (
        &["network"],
        "there are no networks of the cluster; services have --network none or host: see `coracle service create --help`",
    ),
    (&["run", "create", "apply"], "make a service with `coracle service create IMAGE`"),
    (&["ps", "get"], "see `coracle service ls`, `coracle service ps SERVICE` and `coracle node ps NODE`"),
    (&["logs", "log"], "see `coracle service logs SERVICE`"),
    (
        &["pull", "push"],
        "images come from archives, not from a registry: load one with `coracle image load -i FILE`",
    ),
    (&["images"], "see `coracle image ls`"),
    (&["info", "status"], "see `coracle system info` and `coracle node ls`"),
];

/// What to use instead of a command that there is not.
pub(crate) fn instead_of(refusal: &clap::Error) -> Option<&'static str> {
    if refusal.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    // What is similar to a command was mistyped, which is told already.
    let word =
        match (refusal.get(ContextKind::InvalidSubcommand), refusal.get(ContextKind::SuggestedSubcommand)) {
            (Some(ContextValue::String(word)), None) => word,
            (Some(ContextValue::String(word)), Some(_)) if word == "stack" => word,
            _ => return None,
        };
    INSTEAD.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, instead)| *instead)
}
