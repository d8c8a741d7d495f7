//! The authority: the only thing that makes certificates for nodes and operators.
//!
//! Who asked, and whether they may have a certificate, is the caller's business. What the
//! certificate says comes from the caller's [`Grant`] alone; the request adds nothing but a key.

use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::csr::CertificateRequest;
use crate::key::PrivateKey;
use crate::name::{Subject, organizational_unit};
use crate::root::{RootCertificate, RootKey};
use crate::x509;

/// How long a certificate is valid unless the cluster says otherwise.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// The shortest validity: below it, renewal would be all that managers do.
pub const MIN_VALIDITY: Duration = Duration::from_secs(3600);

/// Why no certificate is issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The key is not that of the root.
    #[error("root key does not belong to the root certificate with digest {digest}")]
    KeyMismatch {
        /// The digest of the root.
        digest: crate::root::RootDigest,
    },
    /// The root cannot be used to sign.
    #[error("root certificate cannot issue certificates")]
    Root(#[source] rcgen::Error),
    /// The validity is too short.
    #[error(
        "certificate validity of {seconds} s for {subject} is too short: the least is {least} s",
        least = MIN_VALIDITY.as_secs()
    )]
    Validity {
        /// Whose certificate.
        subject: Subject,
        /// What was asked for, in seconds.
        seconds: u64,
    },
    /// The root ends too soon.
    #[error("root certificate ends in less than {least} s: rotate the root before {subject} can get a certificate",
        least = MIN_VALIDITY.as_secs())]
    RootEnds {
        /// Whose certificate.
        subject: Subject,
    },
    /// Signing failed.
    #[error("cannot sign a certificate for {subject}")]
    Sign {
        /// Whose certificate.
        subject: Subject,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The system gave no randomness for a serial number.
    #[error("cannot draw a serial number: the system has no randomness")]
    Randomness,
}

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who the holder is.
    pub subject: Subject,
    /// How long from now on it is valid, [`DEFAULT_VALIDITY`] in most clusters. Never longer than the root.
    pub validity: Duration,
    /// The present time.
    pub now: UnixTime,
}

/// A root certificate together with its key.
#[derive(Debug)]
pub struct Authority {
    root: RootCertificate,
    key: RootKey,
    least: Duration,
}

impl Authority {
    /// Joins the two.
    ///
    /// # Errors
    /// If the key is not the certificate's.
    pub fn new(root: RootCertificate, key: RootKey) -> Result<Self, IssueError> {
        if key.private_key().public_point() != root.public_point() {
            return Err(IssueError::KeyMismatch { digest: root.digest() });
        }
        Ok(Self { root, key, least: MIN_VALIDITY })
    }

    /// Issues also what is valid for less than [`MIN_VALIDITY`]: for tests of what follows the end of a certificate.
    #[must_use]
    pub fn with_least_validity(self, least: Duration) -> Self {
        Self { least, ..self }
    }

    /// The root.
    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// The root's key, to be stored encrypted.
    pub fn key(&self) -> &RootKey {
        &self.key
    }

    /// Issues a certificate that says what `grant` says, for the key of `request`.
    ///
    /// # Errors
    /// If the validity is too short or signing fails.
    pub fn issue(
        &self,
        request: &CertificateRequest,
        grant: &Grant,
    ) -> Result<CertificateDer<'static>, IssueError> {
        self.issue_as_of(request, grant, grant.now)
    }

    /// The same, for a certificate that says it was issued at `issued`, which is in the past. What is judged by the age of a
    /// certificate, such as whether its holder was removed since, is judged as with the one that it replaces.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_as_of(
        &self,
        request: &CertificateRequest,
        grant: &Grant,
        issued: UnixTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let not_after = self.end_of_validity(grant)?;
        let subject = &grant.subject;
        let sign_error = |source| IssueError::Sign { subject: subject.clone(), source };

        let mut params = CertificateParams::default();
        let common_name = subject.common_name();
        let unit = organizational_unit(subject.role());
        params.distinguished_name =
            x509::distinguished_name(&common_name, &self.root.cluster().to_string(), Some(unit));
        params.subject_alt_names = vec![
            SanType::DnsName(Ia5String::try_from(common_name).map_err(sign_error)?),
            SanType::DnsName(Ia5String::try_from(unit).map_err(sign_error)?),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match subject {
            Subject::Worker(_) | Subject::Manager(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Subject::Operator(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number =
            Some(SerialNumber::from_slice(&x509::random_serial().ok_or(IssueError::Randomness)?));
        x509::set_validity(&mut params, x509::earlier(issued.min(grant.now), x509::BACKDATE), not_after);

        let certificate = params.signed_by(request.public(), &self.issuer()?).map_err(sign_error)?;
        Ok(certificate.into())
    }

    fn end_of_validity(&self, grant: &Grant) -> Result<UnixTime, IssueError> {
        if grant.validity < self.least {
            return Err(IssueError::Validity {
                subject: grant.subject.clone(),
                seconds: grant.validity.as_secs(),
            });
        }
        if self.root.not_after() < x509::later(grant.now, self.least) {
            return Err(IssueError::RootEnds { subject: grant.subject.clone() });
        }
        Ok(x509::later(grant.now, grant.validity).min(self.root.not_after()))
    }

    fn issuer(&self) -> Result<Issuer<'_, &PrivateKey>, IssueError> {
        Issuer::from_ca_cert_der(self.root.der(), self.key.private_key()).map_err(IssueError::Root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csr::request_certificate;
    use crate::identity::PeerIdentity;
    use crate::testing::{World, cluster, node, now};
    use coracle_model::role::Role;
    use rcgen::{BasicConstraints, DnType};

    fn grant(subject: Subject) -> Grant {
        Grant { subject, validity: DEFAULT_VALIDITY, now: now() }
    }

    #[test]
    fn a_request_that_asks_for_more_gets_what_was_granted() {
        let world = World::new(1);
        let key = PrivateKey::generate().unwrap();
        let mut params = CertificateParams::new(vec!["coracle-manager".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, node(66).to_string());
        params.distinguished_name.push(DnType::OrganizationalUnitName, "coracle-manager");
        params.distinguished_name.push(DnType::OrganizationName, cluster(66).to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        let greedy = params.serialize_request(&key).unwrap();

        let request = CertificateRequest::from_der(greedy.der()).unwrap();
        let der = world.authority.issue(&request, &grant(Subject::Worker(node(5)))).unwrap();
        let peer = PeerIdentity::from_verified(&der).unwrap();
        assert_eq!(peer.role(), Role::Worker);
        assert_eq!(peer.node(), Some(node(5)));
        assert_eq!(peer.cluster(), cluster(1));
        let certificate = x509::parse(&der).unwrap();
        assert!(!certificate.is_ca());
        assert!(!certificate.key_usage().unwrap().unwrap().value.key_cert_sign());
        assert!(!certificate.extended_key_usage().unwrap().unwrap().value.any);
        assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
    }

    #[test]
    fn validity_is_back_dated_and_bounded() {
        let world = World::new(1);
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let now = now();
        let issue = |validity| {
            let grant = Grant { subject: Subject::Worker(node(5)), validity, now };
            world.authority.issue(&request, &grant)
        };
        let peer = PeerIdentity::from_verified(&issue(DEFAULT_VALIDITY).unwrap()).unwrap();
        assert_eq!(peer.not_before().as_secs(), now.as_secs() - 3600);
        assert_eq!(peer.not_after().as_secs(), now.as_secs() + 30 * 86_400);
        assert!(matches!(issue(Duration::from_secs(3599)), Err(IssueError::Validity { .. })));
        let longest = PeerIdentity::from_verified(&issue(Duration::MAX).unwrap()).unwrap();
        assert_eq!(longest.not_after(), world.root.not_after());
    }

    #[test]
    fn a_root_at_its_end_issues_nothing() {
        let world = World::new(1);
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let late = x509::earlier(world.root.not_after(), Duration::from_secs(60));
        let grant = Grant { subject: Subject::Worker(node(5)), validity: DEFAULT_VALIDITY, now: late };
        assert!(matches!(world.authority.issue(&request, &grant), Err(IssueError::RootEnds { .. })));
    }

    #[test]
    fn serial_numbers_differ() {
        let world = World::new(1);
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let serial = || {
            let der = world.authority.issue(&request, &grant(Subject::Manager(node(5)))).unwrap();
            PeerIdentity::from_verified(&der).unwrap().serial()
        };
        assert_ne!(serial(), serial());
    }

    #[test]
    fn operators_can_only_be_clients() {
        let world = World::new(1);
        let operator = world.operator("admin");
        let certificate = x509::parse(&operator.chain()[0]).unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn another_roots_key_is_refused() {
        let world = World::new(1);
        let error = Authority::new(world.root, RootKey::generate().unwrap()).unwrap_err();
        assert!(matches!(error, IssueError::KeyMismatch { .. }));
    }
}
