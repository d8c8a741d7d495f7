//! The way back of a node whose certificate is over, because it was off or cut off for longer than the certificate was good.
//!
//! It calls a manager as nobody, verifies it with the root that it trusts, and proves the key of its old certificate.

use coracle_model::time::Timestamp;
use coracle_pki::csr::request_certificate;
use coracle_pki::key::PrivateKey;
use coracle_pki::recovery::{Claim, prove};
use coracle_pki::tls::joining_client_config;
use coracle_pki::{NodeIdentity, SwappableIdentity};
use coracle_proto::v1;

use super::{IdentityError, answer, connect, identity};

/// Asks the managers, one after the other, for a new certificate for the one that is over; with the role that they want this node
/// to have. `now` is this machine's time.
///
/// # Errors
/// The first refusal of a manager that has looked at this node, or else the last error, if none gives one.
pub async fn recover(
    present: &SwappableIdentity,
    managers: &[String],
    now: Timestamp,
) -> Result<(NodeIdentity, Vec<String>), IdentityError> {
    let mut last = IdentityError::NoManagers;
    for address in managers {
        match recover_at(present, address, now).await {
            Ok(recovered) => return Ok(recovered),
            Err(error) if error.is_verdict() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn recover_at(
    present: &SwappableIdentity,
    address: &str,
    now: Timestamp,
) -> Result<(NodeIdentity, Vec<String>), IdentityError> {
    let present = present.current();
    let old = present.identity();
    let mut client = connect(address, joining_client_config(old.root())?).await?;
    let given = answer(address, client.challenge(v1::ChallengeRequest {})).await?;
    let key = PrivateKey::generate()?;
    let csr = request_certificate(&key)?;
    let certificate = old.chain().first().map(|leaf| leaf.to_vec()).unwrap_or_default();
    let claim = Claim { challenge: &given.challenge, certificate: &certificate, request: &csr };
    let proof = prove(old.key(), &claim)?;
    let request = v1::RecoverRequest {
        challenge: given.challenge.clone(),
        csr_der: csr.to_vec().into(),
        proof: proof.into(),
        certificate_der: certificate.into(),
    };
    let issued = answer(address, client.recover(request)).await?;
    let managers = issued.managers.clone();
    let new = identity(issued, key, old.root())?;
    let until = Timestamp::from_secs(new.peer().not_after().as_secs());
    if until <= now {
        let there = Timestamp::from_nanos(given.time);
        return Err(IdentityError::Clock { address: address.to_owned(), here: now, there, until });
    }
    Ok((new, managers))
}
