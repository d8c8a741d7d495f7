//! `coracle image …`

mod load;
mod ls;

use std::path::PathBuf;

use clap::Subcommand;
use coracle_proto::v1;

use super::each;
use crate::context::{ConnectionArgs, Context};
use crate::output;

/// Commands on images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the images of an archive into the cluster (docker save, OCI layout)
    #[command(after_help = "Examples:
  coracle image load -i web.tar
  docker save web:1 | coracle image load")]
    Load {
        /// The archive; - is the standard input
        #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
        input: PathBuf,
        /// Only the names of the images
        #[arg(short, long)]
        quiet: bool,
    },
    /// Make an image of a root file system
    #[command(after_help = "Example:\n  coracle image import rootfs.tar base:1")]
    Import {
        /// A tar archive of the file system; - is the standard input
        #[arg(value_name = "FILE")]
        input: PathBuf,
        /// Name of the new image
        #[arg(value_name = "NAME:TAG")]
        name: String,
    },
    /// List the images of the cluster
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  coracle image ls --format '{{.Repository}}:{{.Tag}}'"
    )]
    Ls(ls::Args),
    /// Remove images from the cluster
    #[command(visible_alias = "remove", after_help = "Example:\n  coracle image rm web:1")]
    Rm {
        /// Also when a service uses it
        #[arg(short, long)]
        force: bool,
        /// Names of images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

/// Runs one of them.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(command: Command, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let context = Context::connect(connection).await?;
    match command {
        Command::Load { input, quiet } => load::run(&context, &input, String::new(), quiet).await,
        Command::Import { input, name } => load::run(&context, &input, name, true).await,
        Command::Ls(args) => ls::run(&context, args).await,
        Command::Rm { force, images } => {
            each(&images, async |image| {
                let request = v1::RemoveImageRequest { name: image.to_owned(), force };
                let answer =
                    context.write(request, async |request| context.images().remove(request).await).await?;
                output::line(&format!("Untagged: {}@{}", ls::familiar(&answer.name), answer.digest))?;
                Ok(())
            })
            .await
        }
    }
}
