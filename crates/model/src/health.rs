//! Health checks: commands that are run inside a container to see whether it serves.

use std::time::Duration;

/// What a service says of its health check. Everything that is left out is the image's, then Docker's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthConfig {
    /// What is run.
    pub test: HealthTest,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// How long one check may take.
    pub timeout: Option<Duration>,
    /// Failures in a row that make a container unhealthy.
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in the start period.
    pub start_interval: Option<Duration>,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HealthTest {
    /// What the image says, if it says anything.
    #[default]
    Image,
    /// Nothing, whatever the image says.
    Disabled,
    /// A program with its arguments.
    Command(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

/// A health check with everything decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Time between two checks.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// Failures in a row that make a container unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
    /// Time between two checks in the start period.
    pub start_interval: Duration,
}

impl HealthCheck {
    /// Docker's defaults for a command.
    #[must_use]
    pub const fn of(command: Vec<String>) -> Self {
        Self {
            command,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// Results that are kept of a container's checks.
pub const RESULTS_KEPT: usize = 5;
/// Bytes that are kept of the output of the last check, and less of those before it: this is replicated with every change.
pub const OUTPUT_KEPT: usize = 1024;

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthResult {
    /// When it began, by the node's clock.
    pub started_at: crate::time::Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Exit status; none when it was ended because it took too long, or could not be started.
    pub code: Option<i32>,
    /// The beginning of what it printed, or why it could not be run.
    pub output: String,
}
