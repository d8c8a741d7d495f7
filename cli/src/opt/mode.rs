//! Words with a fixed choice that the model has no grammar for.

use coracle_proto::v1;

use super::FlagError;

/// Kind of service on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// So many tasks.
    Replicated,
    /// One on each node.
    Global,
    /// So many tasks that end with success.
    ReplicatedJob,
    /// One that ends with success on each node.
    GlobalJob,
}

/// Reads the value of `--mode`.
///
/// # Errors
/// Names the value and the choice.
pub(crate) fn mode(text: &str) -> Result<Mode, FlagError> {
    match text {
        "replicated" => Ok(Mode::Replicated),
        "global" => Ok(Mode::Global),
        "replicated-job" => Ok(Mode::ReplicatedJob),
        "global-job" => Ok(Mode::GlobalJob),
        _ => Err(FlagError::new("mode", text, "use replicated, global, replicated-job or global-job")),
    }
}

/// Reads the value of `--network`.
///
/// # Errors
/// Names the value and the choice.
pub(crate) fn network(text: &str) -> Result<v1::NetworkMode, FlagError> {
    match text {
        "none" => Ok(v1::NetworkMode::None),
        "host" => Ok(v1::NetworkMode::Host),
        _ => Err(FlagError::new("network", text, "use none or host; overlay networks are not there yet")),
    }
}

/// A parser for clap of whether a kind of namespace is shared with the node.
pub(crate) fn namespace(
    field: &'static str,
) -> impl Fn(&str) -> Result<v1::NamespaceMode, FlagError> + Clone + Send + Sync + 'static {
    move |text| match text {
        "private" => Ok(v1::NamespaceMode::Private),
        "host" => Ok(v1::NamespaceMode::Host),
        _ => Err(FlagError::new(field, text, "use private or host")),
    }
}

/// Reads the role of a node.
///
/// # Errors
/// Names the value and the choice.
pub(crate) fn node_role(text: &str) -> Result<v1::NodeRole, FlagError> {
    match text {
        "worker" => Ok(v1::NodeRole::Worker),
        "manager" => Ok(v1::NodeRole::Manager),
        _ => Err(FlagError::new("role", text, "use worker or manager")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_are_refused_with_the_choice() {
        assert_eq!(mode("global"), Ok(Mode::Global));
        assert_eq!(network("host"), Ok(v1::NetworkMode::Host));
        assert_eq!(node_role("worker"), Ok(v1::NodeRole::Worker));
        let error = mode("daemon").unwrap_err().to_string();
        let expected = "mode: invalid value \"daemon\": use replicated, global, replicated-job or global-job";
        assert_eq!(error, expected);
        assert!(namespace("pid")("container:web").is_err());
        assert!(network("ingress").is_err() && node_role("operator").is_err());
    }
}
