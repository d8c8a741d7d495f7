//! `coracle swarm operator-cert`: the key is made here and never leaves this machine.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use coracle_pki::key::PrivateKey;
use coracle_pki::{CertificateDer, NodeIdentity, OperatorName, RootCertificate, csr};
use coracle_proto::convert::nanos;
use coracle_proto::v1;

use crate::context::{BUNDLE_FILE, Context, certificate_folder};
use crate::error::{Failure, say};
use crate::exit_code::ExitCode;
use crate::opt::duration;
use crate::output;

/// Flags of `swarm operator-cert`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who holds it: lower-case letters, digits, '-' and '.'
    #[arg(long, value_name = "NAME", default_value = "operator")]
    name: String,
    /// How long it is valid (default the cluster's validity of certificates)
    #[arg(long, value_name = "DURATION", value_parser = duration::parser("validity"))]
    validity: Option<Duration>,
    /// Folder for it (default --cert-dir, then ~/.config/coracle)
    #[arg(short, long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Replace a certificate that is there
    #[arg(short, long)]
    force: bool,
}

/// Makes key and request, has the request signed, and writes the bundle.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let name: OperatorName =
        args.name.parse().map_err(|error| Failure::new(ExitCode::Usage, format!("name: {error}")))?;
    let folder = certificate_folder(args.output).ok_or_else(|| {
        Failure::new(ExitCode::Usage, "no folder for the certificate is known: use --output")
    })?;
    let path = folder.join(BUNDLE_FILE);
    if path.exists() && !args.force {
        return Err(Failure::new(ExitCode::Conflict, format!("{} exists already", path.display()))
            .with_hint("replace it with --force, or choose another folder with --output")
            .into());
    }
    let key = PrivateKey::generate()?;
    let request = v1::IssueOperatorCertificateRequest {
        csr_der: csr::request_certificate(&key)?.to_vec().into(),
        name: name.to_string(),
        validity: args.validity.map_or(0, nanos),
    };
    let answer = context
        .write(request, async |request| context.swarm().issue_operator_certificate(request).await)
        .await?;
    let root = RootCertificate::from_der(&answer.root_certificate_der)
        .context("the managers' root is not usable")?;
    let leaf = CertificateDer::from(answer.certificate_der.to_vec());
    let identity =
        NodeIdentity::new(vec![leaf], key, root).context("the managers' certificate is not for this key")?;
    save(&folder, &path, &identity.to_pem()?).with_context(|| format!("cannot write {}", path.display()))?;
    output::line(&path.display().to_string())?;
    if let Some(manager) = answer.managers.first() {
        say(&format!("use it with: coracle --host {manager} --cert-dir {} node ls", folder.display()));
    }
    Ok(())
}

/// Writes a file that only its owner reads, whole or not at all.
fn save(folder: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!(".{BUNDLE_FILE}.{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_bundle_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(BUNDLE_FILE);
        for text in [b"one".as_slice(), b"two"] {
            save(path.parent().unwrap(), &path, text).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
