//! Where archives come from and go to. Everything is asynchronous: a slow disk or pipe must not keep the connection from answering.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::error::Failure;
use crate::exit_code::ExitCode;

/// What the archive of a command is named by.
pub(super) const STANDARD: &str = "-";

/// Where an archive goes. A file has its name only when the archive is whole; dropped before, nothing is left of it.
pub(super) struct Target {
    file: File,
    /// The file so far, and its name in the end; nothing for what is no file of ours.
    unfinished: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// When it is a terminal or cannot be written.
    pub(super) fn open(output: &Path) -> anyhow::Result<Self> {
        if output == Path::new(STANDARD) {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(Failure::new(
                    ExitCode::Usage,
                    "the standard output is a terminal: an archive does not belong there",
                )
                .with_hint("name a file with --output, or send it through a pipe")
                .into());
            }
            let stdout = stdout.as_fd().try_clone_to_owned().context("cannot use the standard output")?;
            return Ok(Self { file: File::from_std(stdout.into()), unfinished: None });
        }
        let cannot = || format!("cannot write {}", output.display());
        // What is there and is no file, such as a device or a pipe, is written to and not replaced.
        if std::fs::metadata(output).is_ok_and(|metadata| !metadata.is_file()) {
            let file = std::fs::OpenOptions::new().write(true).open(output).with_context(cannot)?;
            return Ok(Self { file: File::from_std(file), unfinished: None });
        }
        let mut name = output.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".part-{}", std::process::id()));
        let part = output.with_file_name(name);
        // What was in a volume may be secret.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = File::from_std(file.with_context(cannot)?);
        Ok(Self { file, unfinished: Some((part, output.to_owned())) })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(piece).await.with_context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        match &self.unfinished {
            Some((_, output)) => format!("cannot write the archive to {}", output.display()),
            None => "cannot write the archive".to_owned(),
        }
    }

    /// Puts the whole archive on the disk, under its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush().await.with_context(|| self.cannot())?;
        if let Some((part, output)) = &self.unfinished {
            self.file.sync_all().await.with_context(|| self.cannot())?;
            std::fs::rename(part, output).with_context(|| self.cannot())?;
            self.unfinished = None;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.unfinished {
            // What cannot be removed is only untidy.
            let _ = std::fs::remove_file(part);
        }
    }
}

/// Opens the source of an archive; with its size where that is known.
///
/// # Errors
/// When it is a terminal or cannot be read.
pub(super) async fn open_source(input: &Path) -> anyhow::Result<(File, Option<u64>)> {
    if input == Path::new(STANDARD) {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::new(ExitCode::Usage, "the standard input is a terminal, not an archive")
                .with_hint("name the archive with --input, or send it through a pipe")
                .into());
        }
        let stdin = stdin.as_fd().try_clone_to_owned().context("cannot read the standard input")?;
        return Ok((File::from_std(stdin.into()), None));
    }
    let opened = async {
        let file = File::open(input).await?;
        let metadata = file.metadata().await?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok::<_, io::Error>((file, metadata.is_file().then_some(metadata.len())))
    };
    opened.await.map_err(|error| {
        let code =
            if error.kind() == io::ErrorKind::NotFound { ExitCode::NotFound } else { ExitCode::Failure };
        Failure::new(code, format!("cannot read {}", input.display())).caused_by(error).into()
    })
}

/// How it goes, on a terminal.
pub(super) fn progress(size: Option<u64>, verb: &str, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
    progress.set_draw_target(ProgressDrawTarget::stderr());
    let template = format!("{{spinner}} {{binary_bytes}} {verb}, {{binary_bytes_per_sec}} {{wide_bar}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// Resolves when the operator interrupts the command. `may_be_done` is asked then whether the other side may have everything.
pub(super) async fn interrupted(may_be_done: impl Fn() -> bool) -> anyhow::Error {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    if may_be_done() {
        return Failure::new(ExitCode::Interrupted, "interrupted: it may have been done or not")
            .with_hint("look with `coracle volume ls`")
            .into();
    }
    Failure::new(ExitCode::Interrupted, "interrupted: nothing of the archive is kept").into()
}
