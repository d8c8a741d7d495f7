//! Who the other side of a connection is, read from the certificate it proved to hold.

use std::fmt;

use coracle_model::id::{ClusterId, NodeId};
use coracle_model::role::Role;
use rustls_pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::name::{Subject, organizational_unit, role_of_organizational_unit};
use crate::x509::{self, CertificateSyntaxError};

/// Why a certificate is none that our authority issues.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("certificate cannot be read as that of a cluster's member")]
    Syntax(#[from] CertificateSyntaxError),
    /// Some field is not as we issue it.
    #[error("certificate is not one of a cluster's member: {field} is not {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// The serial number of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub u128);

impl fmt::Display for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Serial({self})")
    }
}

/// What a certificate says about its holder. It is worth something only if the certificate was
/// verified: TLS has verified a connection's peer certificate before it can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    subject: Subject,
    cluster: ClusterId,
    serial: Serial,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl PeerIdentity {
    /// Reads the leaf certificate that a peer was verified by. Anything that our authority would not
    /// have issued exactly so is refused, even if our root signed it.
    ///
    /// # Errors
    /// If the certificate is not one of a worker, manager or operator.
    pub fn from_verified(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = x509::parse(der)?;
        let names = x509::names(certificate.subject(), true)?;
        let unit = names.organizational_unit.unwrap_or_default();
        let role = role_of_organizational_unit(unit).ok_or_else(|| {
            field("organisational unit", "coracle-worker, coracle-manager or coracle-operator")
        })?;
        let cluster = names.organization.parse().map_err(|_| field("organisation", "a cluster id"))?;
        let subject = subject(names.common_name, role)?;
        check_not_an_authority(&certificate)?;
        check_usage(&certificate, role)?;
        check_alternative_names(&certificate, names.common_name, role)?;
        Ok(Self {
            subject,
            cluster,
            serial: serial(&certificate)?,
            not_before: x509::time(certificate.validity().not_before)?,
            not_after: x509::time(certificate.validity().not_after)?,
        })
    }

    /// Who it is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The node, unless it is an operator.
    pub fn node(&self) -> Option<NodeId> {
        self.subject.node()
    }

    /// The role in the certificate. Managers also ask the replicated node object, so that a demotion
    /// acts at once.
    pub fn role(&self) -> Role {
        self.subject.role()
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The first second of validity; one hour before it was issued.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The second in which it was issued, by the clock of the authority.
    pub fn issued_at(&self) -> UnixTime {
        x509::later(self.not_before, x509::BACKDATE)
    }

    /// The last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

fn field(field: &'static str, expected: &'static str) -> IdentityError {
    IdentityError::Field { field, expected }
}

fn subject(common_name: &str, role: Role) -> Result<Subject, IdentityError> {
    match role {
        Role::Operator => {
            common_name.parse().map(Subject::Operator).map_err(|_| field("common name", "an operator's name"))
        }
        Role::Worker | Role::Manager => common_name
            .parse()
            .ok()
            .and_then(|node| Subject::node_with_role(node, role))
            .ok_or_else(|| field("common name", "a node id")),
    }
}

fn check_not_an_authority(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let wrong = || field("basic constraint", "CA:FALSE");
    let constraints = certificate.basic_constraints().map_err(|_| wrong())?.ok_or_else(wrong)?;
    if constraints.value.ca { Err(wrong()) } else { Ok(()) }
}

fn check_usage(certificate: &X509Certificate<'_>, role: Role) -> Result<(), IdentityError> {
    let wrong = || field("extended key usage", "what its role has");
    let usage = certificate.extended_key_usage().map_err(|_| wrong())?.ok_or_else(wrong)?.value;
    let only_tls = !usage.any
        && !usage.code_signing
        && !usage.email_protection
        && !usage.time_stamping
        && !usage.ocsp_signing
        && usage.other.is_empty();
    let serves = matches!(role, Role::Worker | Role::Manager);
    if only_tls && usage.client_auth && usage.server_auth == serves { Ok(()) } else { Err(wrong()) }
}

fn check_alternative_names(
    certificate: &X509Certificate<'_>,
    common_name: &str,
    role: Role,
) -> Result<(), IdentityError> {
    let wrong = || field("list of alternative names", "the common name and the role");
    let names = certificate.subject_alternative_name().map_err(|_| wrong())?.ok_or_else(wrong)?;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(first), GeneralName::DNSName(second)]
            if *first == common_name && *second == organizational_unit(role) =>
        {
            Ok(())
        }
        _ => Err(wrong()),
    }
}

fn serial(certificate: &X509Certificate<'_>) -> Result<Serial, IdentityError> {
    let raw = certificate.raw_serial();
    let mut bytes = [0; 16];
    let start = bytes.len().checked_sub(raw.len());
    match start.and_then(|start| bytes.get_mut(start..)) {
        Some(place) if raw.first().is_some_and(|first| *first < 0x80) => place.copy_from_slice(raw),
        _ => return Err(field("serial number", "a positive number of at most 16 bytes")),
    }
    Ok(Serial(u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, cluster, node};
    use proptest::prelude::*;

    #[test]
    fn each_role_is_read() {
        let world = World::new(1);
        let worker = PeerIdentity::from_verified(&world.worker(5).chain()[0]).unwrap();
        assert_eq!(worker.subject(), &Subject::Worker(node(5)));
        assert_eq!(worker.cluster(), cluster(1));
        let manager = PeerIdentity::from_verified(&world.manager(6).chain()[0]).unwrap();
        assert_eq!(manager.subject(), &Subject::Manager(node(6)));
        let operator = PeerIdentity::from_verified(&world.operator("admin").chain()[0]).unwrap();
        assert_eq!(operator.subject().to_string(), "operator admin");
        assert_eq!(operator.node(), None);
    }

    #[test]
    fn the_root_is_nobody() {
        assert!(PeerIdentity::from_verified(World::new(1).root.der()).is_err());
    }

    #[test]
    fn certificates_of_another_make_are_refused() {
        let world = World::new(1);
        for forged in world.odd_certificates() {
            let error = PeerIdentity::from_verified(&forged.der);
            assert!(error.is_err(), "{}", forged.what);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PeerIdentity::from_verified(&bytes);
        }
    }
}
