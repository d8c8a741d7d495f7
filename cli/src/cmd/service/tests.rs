//! Flags from the command line to what managers check, and back, without a manager.

mod refusals;
mod round_trip;

use clap::Parser;
use coracle_model::digest::Digest;
use coracle_model::service::ServiceSpec;
use coracle_model::validate;
use coracle_proto::convert::service::draft;
use coracle_proto::v1;

use super::{create, update};

#[derive(Debug, Parser)]
struct CreateLine {
    #[command(flatten)]
    args: create::Args,
}

#[derive(Debug, Parser)]
struct UpdateLine {
    #[command(flatten)]
    args: update::Args,
}

/// What clap says, without its advice.
fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// The specification that `service create` sends for these flags.
fn created(flags: &[String]) -> Result<v1::ServiceSpec, String> {
    let words = ["create".to_owned()].into_iter().chain(flags.iter().cloned()).chain(["web:1".to_owned()]);
    let line = CreateLine::try_parse_from(words).map_err(|error| told(&error))?;
    create::specification(&line.args).map_err(|error| error.to_string())
}

/// The specification that `service update` sends for these flags.
fn updated(present: v1::ServiceSpec, flags: &[String]) -> Result<v1::ServiceSpec, String> {
    let words = ["update".to_owned()].into_iter().chain(flags.iter().cloned()).chain(["web".to_owned()]);
    let line = UpdateLine::try_parse_from(words).map_err(|error| told(&error))?;
    update::merged(present, &line.args).map_err(|error| error.to_string())
}

/// The specification as managers read it, its image resolved.
fn read(spec: v1::ServiceSpec) -> Result<ServiceSpec, String> {
    let mut draft = draft(spec).map_err(|error| error.to_string())?;
    if draft.name().is_none() {
        draft = draft.with_name("web".parse().unwrap());
    }
    draft.pin(Digest::from_bytes([1; 32])).map_err(|error| error.to_string())
}

/// What managers check of it.
fn checked(spec: v1::ServiceSpec) -> Result<ServiceSpec, String> {
    let spec = read(spec)?;
    validate::files(&spec.task.container).map_err(|error| error.to_string())?;
    validate::service(&spec).map_err(|error| error.to_string())?;
    validate::policy(&spec, false).map_err(|error| error.to_string())?;
    Ok(spec)
}

fn flags(line: &str) -> Vec<String> {
    crate::opt::words::split("flags", line).unwrap()
}
