//! The commands, one folder for each noun and one file for each verb.

pub(crate) mod completion;
pub(crate) mod config;
mod file;
pub(crate) mod image;
pub(crate) mod node;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod swarm;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod version;
pub(crate) mod volume;

mod inspect;

use crate::error::{self, Reported};
use crate::exit_code::ExitCode;

/// Does something with each object that was named, tells every failure, and fails with the first one's exit status.
///
/// # Errors
/// When any of them failed; it was told then.
async fn each(names: &[String], act: impl AsyncFn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    each_of(names, async |name: &String| act(name).await).await
}

/// The same with whatever stands for an object. A user who interrupts means everything.
///
/// # Errors
/// When any of them failed; it was told then.
async fn each_of<T>(items: &[T], act: impl AsyncFn(&T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut first = None;
    for item in items {
        match act(item).await {
            Ok(()) => {}
            Err(failure) if error::is_broken_pipe(&failure) => return Err(failure),
            Err(failure) if error::exit_code(&failure) == ExitCode::Interrupted => return Err(failure),
            Err(failure) => {
                error::report(&failure);
                first.get_or_insert(error::exit_code(&failure));
            }
        }
    }
    first.map_or(Ok(()), |code| Err(Reported(code).into()))
}
