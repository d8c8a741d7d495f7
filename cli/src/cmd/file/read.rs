//! What a secret or a config is to contain.

use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use coracle_model::secret::FileKind;

use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Reads a file, or the standard input where it is `-`; not more than one can contain.
///
/// # Errors
/// If it cannot be read, is empty or is too large.
pub(super) fn content(kind: FileKind, path: &Path) -> anyhow::Result<Bytes> {
    let read = if path == Path::new("-") {
        if io::stdin().is_terminal() {
            let message = format!("the standard input is a terminal, not what the {kind} is to contain");
            return Err(Failure::new(ExitCode::Usage, message)
                .with_hint("name a file, or send it through a pipe")
                .into());
        }
        bounded(kind, io::stdin().lock()).context("cannot read the standard input")?
    } else {
        let opened = std::fs::File::open(path).and_then(|file| bounded(kind, file));
        opened.map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let code = if missing { ExitCode::NotFound } else { ExitCode::Failure };
            Failure::new(code, format!("cannot read {}", path.display())).caused_by(error)
        })?
    };
    if read.len() >= kind.limit() {
        let message =
            format!("{} is too large: a {kind} is smaller than {} bytes", path.display(), kind.limit());
        return Err(Failure::new(ExitCode::Usage, message).into());
    }
    Ok(read.into())
}

/// One byte more than fits would have to be said no to.
fn bounded(kind: FileKind, source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(kind.limit() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
