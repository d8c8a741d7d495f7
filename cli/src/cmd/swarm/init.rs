//! `coracle swarm init`

use coracle_model::node::Availability;
use coracle_proto::v1;

use super::{MEMBERSHIP_DEADLINE, join_command};
use crate::context::Context;
use crate::error::say;
use crate::output;

/// Flags of `swarm init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub addresses: Addresses,
}

/// Flags that `init` and `join` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Addresses {
    /// Address at which other nodes reach this one: IP or interface, with :PORT if needed
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    pub advertise_addr: String,
    /// Address to listen at (default 0.0.0.0:2377)
    #[arg(long, value_name = "IP:PORT", default_value = "", hide_default_value = true)]
    pub listen_addr: String,
    /// active (gets tasks), pause (gets no more) or drain (has none)
    #[arg(long, value_name = "AVAILABILITY", default_value = "active")]
    pub availability: Availability,
}

/// Makes the cluster and tells how others join.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    context.require_local()?;
    let addresses = args.addresses;
    let request = v1::InitRequest {
        advertise_address: addresses.advertise_addr,
        listen_address: addresses.listen_addr,
        availability: v1::Availability::from(addresses.availability).into(),
    };
    let answer = context
        .once(MEMBERSHIP_DEADLINE, request, async |request| context.local().init(request).await)
        .await?;
    answer.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let text = format!(
        "Swarm initialized: current node ({}) is now a manager.\n\n\
         To add a worker to this swarm, run the following command:\n\n{}\n\
         To add a manager to this swarm, run the following command:\n\n{}\n",
        answer.node_id,
        join_command(&answer.worker_token, &answer.address),
        join_command(&answer.manager_token, &answer.address),
    );
    Ok(output::write(&output::printable(&text))?)
}
