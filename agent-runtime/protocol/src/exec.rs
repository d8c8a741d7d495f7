//! Programs that are run inside a living container beside its own.

use serde::{Deserialize, Serialize};

/// A program to be run with exactly the container's restrictions. What is left out is the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments, looked up as the container's own.
    pub arguments: Vec<String>,
    /// `NAME=value` strings that are added to the container's or take their place.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Who it runs as.
    #[serde(default)]
    pub user: Option<ExecUser>,
    /// Absolute path in the container.
    #[serde(default)]
    pub working_directory: Option<String>,
    /// Milliseconds after which it is killed with its process group.
    pub timeout_milliseconds: u64,
    /// Bytes that are kept of its output; the rest is read and dropped.
    pub output_bytes: u32,
}

/// A user other than the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecUser {
    /// Name or number; empty means 0.
    pub user: String,
    /// Name or number of the primary group; `None` takes the user's.
    pub group: Option<String>,
    /// Names or numbers of further groups.
    #[serde(default)]
    pub additional_groups: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// How it ended.
    pub end: ExecEnd,
    /// The beginning of what it wrote to standard output and standard error, in the order of writing. What is not UTF-8
    /// became U+FFFD.
    pub output: String,
    /// Whether it wrote more.
    pub truncated: bool,
}

/// How such a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long, and was killed.
    TimedOut,
}
