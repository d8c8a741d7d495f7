//! What this crate reads out of certificates, and what it writes into all of them.

use std::time::Duration;

use rcgen::{DistinguishedName, DnType};
use rustls_pki_types::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// Every certificate is valid from this long before it was issued, so that peers whose clocks are
/// somewhat behind accept it at once.
pub(crate) const BACKDATE: Duration = Duration::from_secs(3600);

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateSyntaxError {
    /// The bytes are no X.509 certificate.
    #[error("not a DER-encoded X.509 certificate: {reason}")]
    Parse {
        /// What the parser says.
        reason: String,
    },
    /// Bytes follow the certificate.
    #[error("{count} bytes follow the certificate")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A name is missing, repeated or not a text.
    #[error("subject has no single text as its {attribute}")]
    Attribute {
        /// Which attribute of the subject.
        attribute: &'static str,
    },
    /// The subject has attributes besides the ones expected.
    #[error("subject has {actual} attributes instead of {expected}")]
    AttributeCount {
        /// How many there are.
        actual: usize,
        /// How many there may be.
        expected: usize,
    },
    /// A time lies before 1970.
    #[error("time of validity lies before 1970")]
    Time,
}

/// Parses exactly one certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateSyntaxError> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| CertificateSyntaxError::Parse { reason: error.to_string() })?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(CertificateSyntaxError::TrailingBytes { count: rest.len() })
    }
}

/// The three names that a subject of ours may have.
pub(crate) struct Names<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) organization: &'a str,
    pub(crate) organizational_unit: Option<&'a str>,
}

/// Reads a subject that has exactly a common name and an organisation, and an organisational unit
/// if `with_unit`.
pub(crate) fn names<'a>(
    name: &'a X509Name<'a>,
    with_unit: bool,
) -> Result<Names<'a>, CertificateSyntaxError> {
    let expected = if with_unit { 3 } else { 2 };
    let actual = name.iter_attributes().count();
    if actual != expected {
        return Err(CertificateSyntaxError::AttributeCount { actual, expected });
    }
    Ok(Names {
        common_name: single(name, &oid_registry::OID_X509_COMMON_NAME, "common name")?,
        organization: single(name, &oid_registry::OID_X509_ORGANIZATION_NAME, "organisation")?,
        organizational_unit: if with_unit {
            Some(single(name, &oid_registry::OID_X509_ORGANIZATIONAL_UNIT, "organisational unit")?)
        } else {
            None
        },
    })
}

fn single<'a>(
    name: &'a X509Name<'a>,
    oid: &Oid<'a>,
    attribute: &'static str,
) -> Result<&'a str, CertificateSyntaxError> {
    let mut values = name.iter_by_oid(oid);
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().map_err(|_| CertificateSyntaxError::Attribute { attribute }),
        _ => Err(CertificateSyntaxError::Attribute { attribute }),
    }
}

/// A time of validity.
pub(crate) fn time(time: ASN1Time) -> Result<UnixTime, CertificateSyntaxError> {
    u64::try_from(time.timestamp())
        .map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        .map_err(|_| CertificateSyntaxError::Time)
}

/// `time` moved by `duration`, at most to the far end of time.
pub(crate) fn later(time: UnixTime, duration: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs().saturating_add(duration.as_secs())))
}

/// `time` moved back by `duration`, at most to 1970.
pub(crate) fn earlier(time: UnixTime, duration: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.as_secs().saturating_sub(duration.as_secs())))
}

/// Sets the validity of a certificate to be written. Times after the year 9999, which X.509 cannot
/// express (RFC 5280, section 4.1.2.5), become its last second.
pub(crate) fn set_validity(params: &mut rcgen::CertificateParams, not_before: UnixTime, not_after: UnixTime) {
    const LAST_SECOND: u64 = 253_402_300_799;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before.as_secs().min(LAST_SECOND));
    params.not_after = epoch + Duration::from_secs(not_after.as_secs().min(LAST_SECOND));
}

/// A subject with these names.
pub(crate) fn distinguished_name(
    common_name: &str,
    organization: &str,
    organizational_unit: Option<&str>,
) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organization);
    if let Some(unit) = organizational_unit {
        name.push(DnType::OrganizationalUnitName, unit);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// 16 random bytes for a serial number, positive and never shorter than 16 bytes, as RFC 5280,
/// section 4.1.2.2 wants it; none if the system has no randomness.
pub(crate) fn random_serial() -> Option<[u8; 16]> {
    let mut serial = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut serial).ok()?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Some(serial)
}
