//! `coracle volume backup`

use std::path::PathBuf;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::backup_volume_response::Part;

use super::archive::{Target, interrupted, progress};
use super::count;
use crate::context::Context;
use crate::error::say;

/// Flags of `volume backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which one is meant: id, host name or unique prefix of an id; needed when several nodes have it or one that may is not heard
    #[arg(long, value_name = "NODE", default_value = "", hide_default_value = true)]
    node: String,
    /// Where to write the archive; - is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Name of the volume
    #[arg(value_name = "NAME")]
    name: String,
}

/// Writes the archive: a file has its name only when it is whole.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let target = Target::open(&args.output)?;
    tokio::select! {
        outcome = save(context, args, target) => outcome,
        failure = interrupted(|| false) => Err(failure),
    }
}

async fn save(context: &Context, args: Args, mut target: Target) -> anyhow::Result<()> {
    let request = v1::BackupVolumeRequest { name: args.name, node: args.node };
    let mut parts = context.open(request, async |request| context.volumes().backup(request).await).await?;
    let progress = progress(None, "received", args.quiet);
    let mut bytes = 0;
    while let Some(message) = parts.message().await.map_err(|status| broken(context, &status))? {
        match message.part {
            Some(Part::Start(start)) => tell_start(&start),
            Some(Part::Data(data)) => {
                target.write(&data).await?;
                bytes += data.len() as u64;
                progress.inc(data.len() as u64);
            }
            Some(Part::End(end)) if end.bytes == bytes => {
                target.finish().await?;
                progress.finish_and_clear();
                tell_end(&end);
                return Ok(());
            }
            Some(Part::End(_)) | None => break,
        }
    }
    Err(ApiError::new(Reason::Unavailable, "the archive broke off before its end")
        .with_hint("try again")
        .into())
}

/// A call that has begun is never taken for one that may have been done.
fn broken(context: &Context, status: &tonic::Status) -> ApiError {
    let error = context.explain(status);
    match error.reason {
        Reason::OutcomeUnknown => {
            let message = format!("the archive broke off before its end: {}", error.message);
            ApiError::new(Reason::Unavailable, message).with_hint("try again")
        }
        _ => error,
    }
}

fn tell_start(start: &v1::NodeVolume) {
    let volume = start.volume.clone().unwrap_or_default();
    if volume.used_by > 0 {
        say(&format!(
            "warning: {} of node {} use{} volume {}: what they change meanwhile may be old, new or in between",
            count(volume.used_by as usize, "task"),
            start.node_hostname,
            if volume.used_by == 1 { "s" } else { "" },
            volume.name,
        ));
    }
}

fn tell_end(end: &v1::VolumeEnd) {
    if end.changed > 0 {
        say(&format!("warning: {} changed while being read", count(end.changed as usize, "file")));
    }
    if end.left_out > 0 {
        let what = "left out: device nodes, sockets and what is mounted there";
        say(&format!(
            "warning: {} {what}",
            count(end.left_out as usize, "entry").replace("entrys", "entries")
        ));
    }
}
