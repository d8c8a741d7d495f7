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

/// Does something with each object that was named, tells every failure, and fails with the first one's exit status.
///
/// # Errors
/// When any of them failed; it was told then.
async fn each(names: &[String], act: impl AsyncFn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut first = None;
    for name in names {
        match act(name).await {
            Ok(()) => {}
            Err(failure) if error::is_broken_pipe(&failure) => return Err(failure),
            Err(failure) => {
                error::report(&failure);
                first.get_or_insert(error::exit_code(&failure));
            }
        }
    }
    first.map_or(Ok(()), |code| Err(Reported(code).into()))
}
