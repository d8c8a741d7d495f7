//! Programs of the host that are run while a container is made (OCI runtime specification, "POSIX-platform Hooks").

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One program of the host, run as the daemon's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Who asks for it, for messages.
    pub device: String,
    /// Which namespaces it sees.
    pub place: HookPlace,
    /// Path of the program on the host.
    pub path: PathBuf,
    /// All arguments, with the name of the program as the first.
    pub arguments: Vec<String>,
    /// All variables, as `NAME=value`.
    pub environment: Vec<String>,
    /// Seconds after which it is killed, and the container is not made.
    pub seconds: u64,
    /// What it reads as JSON from its standard input.
    pub state: HookState,
}

/// Where a hook is run. Either way it is before the root is changed, so that it sees the files of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPlace {
    /// In the host's namespaces (`prestart`, `createRuntime`).
    Host,
    /// In the container's (`createContainer`).
    Container,
}

/// The state of a container as hooks are told (OCI runtime specification, "State").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState {
    /// Version of the specification.
    pub oci_version: String,
    /// Name of the container.
    pub id: String,
    /// `creating`
    pub status: String,
    /// Process id of init as the host sees it; filled in when the hook is run.
    #[serde(default)]
    pub pid: i32,
    /// Directory with a `config.json` that names the root.
    pub bundle: PathBuf,
    /// The root itself, which some runtimes tell too, so that nobody has to look into the bundle.
    pub root: PathBuf,
}
