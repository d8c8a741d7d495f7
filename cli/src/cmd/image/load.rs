//! `coracle image load` and `import`: an archive is sent as it is read.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use coracle_proto::v1;
use coracle_proto::v1::load_image_request::Part;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ls::familiar;
use crate::context::Context;
use crate::error::{Failure, say};
use crate::exit_code::ExitCode;
use crate::output;

/// Bytes in one message.
const CHUNK: usize = 256 << 10;
/// Messages that wait to be sent.
const QUEUE: usize = 4;

type Source = Pin<Box<dyn AsyncRead>>;

/// Sends an archive, or with `import_as` a root file system, and prints the names that the images have got.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(
    context: &Context,
    input: &Path,
    import_as: String,
    quiet: bool,
) -> anyhow::Result<()> {
    let (source, size) = open(input).await?;
    let progress = progress(size, quiet);
    let (chunks, queue) = mpsc::channel(QUEUE);
    let mut images = context.images();
    let call = images.load(ReceiverStream::new(queue));
    let answer = tokio::select! {
        // The end of the messages says that the archive is whole. So `send` ends only when reading failed, while it
        // still holds the queue open, and the call is dropped then.
        failure = send(source, chunks, import_as, &progress) => return Err(failure),
        answer = call => answer.map_err(|status| context.explain(&status))?.into_inner(),
    };
    progress.finish_and_clear();
    for image in &answer.images {
        let name = familiar(&image.name);
        output::line(&if quiet { name } else { format!("Loaded image: {name}") })?;
    }
    if answer.images.is_empty() {
        say("the archive has no images with names");
    }
    Ok(())
}

async fn open(input: &Path) -> anyhow::Result<(Source, Option<u64>)> {
    if input == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::new(ExitCode::Usage, "the standard input is a terminal, not an archive")
                .with_hint("name the archive with --input, or send it through a pipe")
                .into());
        }
        let stdin = io::stdin().as_fd().try_clone_to_owned().context("cannot read the standard input")?;
        return Ok((Box::pin(tokio::fs::File::from_std(stdin.into())), None));
    }
    let opened = async {
        let file = tokio::fs::File::open(input).await?;
        let size = file.metadata().await?.len();
        Ok::<_, io::Error>((Box::pin(file) as Source, Some(size)))
    };
    opened.await.map_err(|error| {
        let code =
            if error.kind() == io::ErrorKind::NotFound { ExitCode::NotFound } else { ExitCode::Failure };
        Failure::new(code, format!("cannot read {}", input.display())).caused_by(error).into()
    })
}

/// Sends everything. Ends with a failure of reading only; otherwise the answer ends it.
async fn send(
    mut source: Source,
    chunks: mpsc::Sender<v1::LoadImageRequest>,
    import_as: String,
    progress: &ProgressBar,
) -> anyhow::Error {
    let mut part = Part::Header(v1::LoadImageHeader { import_as });
    loop {
        let request = v1::LoadImageRequest { part: Some(part) };
        if chunks.send(request).await.is_err() {
            // The other side has ended the call: its answer says why.
            return std::future::pending().await;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match source.read_buf(&mut chunk).await.context("cannot read the archive") {
            Err(failure) => return failure,
            Ok(0) => {
                drop(chunks);
                return std::future::pending().await;
            }
            Ok(read) => progress.inc(read as u64),
        }
        part = Part::Data(chunk.freeze());
    }
}

fn progress(size: Option<u64>, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
    progress.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {binary_bytes} sent {wide_bar}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}
