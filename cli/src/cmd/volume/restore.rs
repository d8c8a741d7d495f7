//! `coracle volume restore`

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::Context as _;
use bytes::BytesMut;
use coracle_model::resources::MemoryBytes;
use coracle_proto::status::ApiError;
use coracle_proto::v1;
use coracle_proto::v1::restore_volume_request::Part;
use indicatif::ProgressBar;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::archive::{interrupted, open_source, progress};
use crate::context::Context;
use crate::error::say;
use crate::opt::label::{self, Label};
use crate::output;

/// Bytes in one message.
const CHUNK: usize = 256 << 10;
/// Messages that wait to be sent.
const QUEUE: usize = 4;

/// Flags of `volume restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive (tar, also with gzip or zstd); - is the standard input
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    input: PathBuf,
    /// A label of the volume (may be repeated): archives have none
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label::parser("label"))]
    label: Vec<Label>,
    /// Where to make it: id, host name or unique prefix of an id
    #[arg(long, value_name = "NODE", required = true)]
    node: String,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Replace a volume of this name that no task uses
    #[arg(long)]
    replace: bool,
    /// Name of the volume
    #[arg(value_name = "NAME")]
    name: String,
}

/// Sends the archive and waits until the volume is on the node's disk.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let (mut source, size) = open_source(&args.input).await?;
    // A pipe can be read only once: that there is a leader, and the node, is known before anything is sent.
    let node = v1::GetNodeRequest { node: args.node.clone() };
    context.call(node, async |request| context.nodes().get(request).await).await?;
    let progress = progress(size, "sent", args.quiet);
    let start = v1::RestoreVolumeStart {
        name: args.name,
        node: args.node,
        labels: args.label.into_iter().map(|label| (label.key, label.value)).collect(),
        replace: args.replace,
    };
    let mut tries = context.tries();
    let answer = loop {
        let error = match transfer(context, &mut source, start.clone(), &progress).await? {
            Ok(answer) => break answer,
            Err(error) => error,
        };
        // Nothing of it is kept. Only a file can be sent again.
        if size.is_none() || !error.reason.may_be_repeated() || !tries.again().await {
            return Err(error.into());
        }
        source.rewind().await.context("cannot read the archive again")?;
        progress.set_position(0);
    };
    progress.finish_and_clear();
    let place = answer.volume.unwrap_or_default();
    if answer.left_out > 0 {
        say(&format!("warning: left out of the archive: device nodes ({})", answer.left_out));
    }
    if answer.attributes_left_out > 0 {
        let what = "extended attributes that volumes or the node's file system do not keep";
        say(&format!("warning: left out of the archive: {what} ({})", answer.attributes_left_out));
    }
    if !args.quiet {
        say(&format!("{} restored on node {}", MemoryBytes(answer.bytes), place.node_hostname));
    }
    Ok(output::line(&place.volume.unwrap_or_default().name)?)
}

/// One try: what the manager answers, unless the archive cannot be read or the operator interrupts.
async fn transfer(
    context: &Context,
    source: &mut File,
    start: v1::RestoreVolumeStart,
    progress: &ProgressBar,
) -> anyhow::Result<Result<v1::RestoreVolumeResponse, ApiError>> {
    let (parts, queue) = mpsc::channel(QUEUE);
    let mut volumes = context.volumes();
    let call = volumes.restore(ReceiverStream::new(queue));
    let is_whole = Cell::new(false);
    tokio::select! {
        // Without its end the manager takes no archive for whole: dropping the call is enough. With it the node may go on.
        failure = send(source, parts, start, progress, &is_whole) => Err(failure),
        failure = interrupted(|| is_whole.get()) => Err(failure),
        answer = call => Ok(answer.map(tonic::Response::into_inner).map_err(|status| context.explain(&status))),
    }
}

/// Sends everything. Ends with a failure of reading only; otherwise the answer ends it. `is_whole` is set before the end goes.
async fn send(
    source: &mut File,
    parts: mpsc::Sender<v1::RestoreVolumeRequest>,
    start: v1::RestoreVolumeStart,
    progress: &ProgressBar,
    is_whole: &Cell<bool>,
) -> anyhow::Error {
    let (mut part, mut bytes) = (Part::Start(start), 0);
    loop {
        let last = matches!(part, Part::End(_));
        is_whole.set(last);
        let sent = parts.send(v1::RestoreVolumeRequest { part: Some(part) }).await;
        if last || sent.is_err() {
            // Everything is said, or the other side has ended the call: the answer says the rest.
            drop(parts);
            return std::future::pending().await;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        part = match source.read_buf(&mut chunk).await.context("cannot read the archive") {
            Err(failure) => return failure,
            Ok(0) => Part::End(v1::VolumeEnd { bytes, ..Default::default() }),
            Ok(read) => {
                bytes += read as u64;
                progress.inc(read as u64);
                Part::Data(chunk.freeze())
            }
        };
    }
}
