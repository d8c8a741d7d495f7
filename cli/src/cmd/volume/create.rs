//! `coracle volume create`

use std::collections::BTreeSet;

use coracle_proto::v1;

use super::tell_failures;
use crate::context::Context;
use crate::error::say;
use crate::opt::label::{self, Label};
use crate::output;

/// Flags of `volume create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What keeps it: local, the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// A label (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label::parser("label"))]
    label: Vec<Label>,
    /// Where to make it: id, host name or unique prefix of an id (may be repeated); the node that answers if there is none
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Its name; without one it is anonymous, and `volume prune` removes it when no task uses it
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
}

/// Makes it and prints its name.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let request = v1::CreateVolumeRequest {
        name: args.name,
        nodes: args.node,
        labels: args.label.into_iter().map(|label| (label.key, label.value)).collect(),
        driver: args.driver,
    };
    let answer = context.write(request, async |request| context.volumes().create(request).await).await?;
    let mut names = BTreeSet::new();
    for created in answer.volumes {
        let place = created.volume.unwrap_or_default();
        let volume = place.volume.unwrap_or_default();
        if created.existed {
            say(&format!(
                "volume {} is on node {} already: it is left as it is",
                volume.name, place.node_hostname
            ));
        }
        names.insert(volume.name);
    }
    for name in names {
        output::line(&name)?;
    }
    tell_failures(answer.failures)
}
