//! `coracle swarm join`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use coracle_pki::JoinToken;
use coracle_proto::v1;
use zeroize::Zeroizing;

use super::MEMBERSHIP_DEADLINE;
use super::init::Addresses;
use crate::context::{ConnectionArgs, Context};
use crate::error::{Failure, say};
use crate::exit_code::ExitCode;
use crate::output::{self, words};

/// Longest text that is read as a token.
const TOKEN_LIMIT: u64 = 4096;

/// Flags of `swarm join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Token that `swarm init` or `swarm join-token` printed; - reads it from the standard input
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file", allow_hyphen_values = true)]
    token: Option<String>,
    /// File with the token; - is the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token", allow_hyphen_values = true)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    addresses: Addresses,
    /// A manager of the cluster
    #[arg(value_name = "IP:PORT")]
    remote: String,
}

/// Joins the cluster.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(args: Args, connection: &ConnectionArgs) -> anyhow::Result<()> {
    let token = token(&args)?;
    let token = JoinToken::parse(&token)
        .map_err(|error| Failure::new(ExitCode::Usage, "token: this is no join token").caused_by(error))?;
    let context = Context::connect(connection).await?;
    context.require_local()?;
    let request = v1::JoinRequest {
        token: token.expose().to_string(),
        remote: args.remote,
        advertise_address: args.addresses.advertise_addr,
        listen_address: args.addresses.listen_addr,
        availability: v1::Availability::from(args.addresses.availability).into(),
    };
    let answer = context
        .once(MEMBERSHIP_DEADLINE, request, async |request| context.local().join(request).await)
        .await?;
    answer.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    Ok(output::line(&format!("This node joined a swarm as a {}.", words::role(answer.role)))?)
}

fn token(args: &Args) -> Result<Zeroizing<String>, Failure> {
    match (&args.token, &args.token_file) {
        (Some(token), _) if token != "-" => Ok(Zeroizing::new(token.clone())),
        (None, Some(file)) if file != Path::new("-") => {
            let opened = std::fs::File::open(file).and_then(read);
            opened.map_err(|error| {
                Failure::new(ExitCode::Usage, format!("cannot read the token file {}", file.display()))
                    .caused_by(error)
            })
        }
        _ => read(std::io::stdin()).map_err(|error| {
            Failure::new(ExitCode::Usage, "cannot read the token from the standard input").caused_by(error)
        }),
    }
}

fn read(source: impl std::io::Read) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    source.take(TOKEN_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}
