//! How failures are told: `error: …`, `caused by: …`, `hint: …`, and which exit status they have.

use std::io::{self, Write as _};

use coracle_proto::status::ApiError;

use crate::exit_code::ExitCode;
use crate::opt::FlagError;
use crate::output::printable;
use crate::output::template::TemplateError;

/// A failure with an exit status of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: ExitCode,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// What failed.
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None }
    }

    /// The same with what would help.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with its cause.
    #[must_use]
    pub(crate) fn caused_by(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

/// Failures that were told already, of a command with several objects; only the exit status is left.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not everything was done")]
pub(crate) struct Reported(pub ExitCode);

/// The exit status of a failure.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<Failure>()
            .map(|failure| failure.code)
            .or_else(|| cause.downcast_ref::<ApiError>().map(|error| error.reason.into()))
            .or_else(|| cause.downcast_ref::<Reported>().map(|reported| reported.0))
            .or_else(|| cause.is::<FlagError>().then_some(ExitCode::Usage))
            .or_else(|| cause.is::<TemplateError>().then_some(ExitCode::Usage))
    };
    error.chain().find_map(of).unwrap_or(ExitCode::Failure)
}

/// Whether the reader of the output has gone: nobody is left to tell.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref::<StdoutError>()).any(|error| broken(&error.0))
}

/// The standard output cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output")]
pub(crate) struct StdoutError(#[source] pub io::Error);

fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| {
        let own = cause.downcast_ref::<Failure>().and_then(|failure| failure.hint.as_deref());
        own.or_else(|| cause.downcast_ref::<ApiError>().and_then(|error| error.hint.as_deref()))
    })
}

/// Tells a failure on the standard error.
pub(crate) fn report(error: &anyhow::Error) {
    if error.downcast_ref::<Reported>().is_some() {
        return;
    }
    let mut text = format!("error: {}\n", printable(&error.to_string()));
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some libraries repeat their cause in their own text.
        if !told.contains(&cause) {
            text.push_str(&format!("caused by: {}\n", printable(&cause)));
        }
        told = cause;
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("hint: {}\n", printable(hint)));
    }
    say_raw(&text);
}

/// One line for the operator on the standard error; nobody reading it is no failure.
pub(crate) fn say(text: &str) {
    say_raw(&format!("{}\n", printable(text)));
}

fn say_raw(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
