//! A cluster's authority and its members, for tests.

use std::error::Error;
use std::time::Duration;

use coracle_model::id::{ClusterId, NodeId};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, SanType, SerialNumber};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::bundle::NodeIdentity;
use crate::csr::{CertificateRequest, request_certificate};
use crate::issue::{Authority, DEFAULT_VALIDITY, Grant};
use crate::key::PrivateKey;
use crate::name::Subject;
use crate::root::{RootCertificate, RootKey};
use crate::x509;

pub(crate) fn cluster(bits: u128) -> ClusterId {
    ClusterId::from_bits(bits)
}

pub(crate) fn node(bits: u128) -> NodeId {
    NodeId::from_bits(bits)
}

/// The real present, because handshakes look at the system's clock.
pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()))
}

/// An error and its causes in one text.
pub(crate) fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) struct World {
    pub(crate) root: RootCertificate,
    pub(crate) authority: Authority,
}

/// A certificate that the root signed but the authority would not have issued.
pub(crate) struct Odd {
    pub(crate) what: &'static str,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PrivateKey,
}

impl World {
    pub(crate) fn new(cluster_bits: u128) -> Self {
        let key = RootKey::generate().unwrap();
        let root = key.certify(cluster(cluster_bits), now()).unwrap();
        Self { root: root.clone(), authority: Authority::new(root, key).unwrap() }
    }

    pub(crate) fn identity(&self, subject: Subject, issued: UnixTime) -> NodeIdentity {
        let key = PrivateKey::generate().unwrap();
        let request = CertificateRequest::from_der(&request_certificate(&key).unwrap()).unwrap();
        let grant = Grant { subject, validity: DEFAULT_VALIDITY, now: issued };
        let leaf = self.authority.issue(&request, &grant).unwrap();
        NodeIdentity::new(vec![leaf], key, self.root.clone()).unwrap()
    }

    pub(crate) fn worker(&self, bits: u128) -> NodeIdentity {
        self.identity(Subject::Worker(node(bits)), now())
    }

    pub(crate) fn manager(&self, bits: u128) -> NodeIdentity {
        self.identity(Subject::Manager(node(bits)), now())
    }

    pub(crate) fn operator(&self, name: &str) -> NodeIdentity {
        self.identity(Subject::Operator(name.parse().unwrap()), now())
    }

    /// Certificates that differ from a manager's in one point each.
    pub(crate) fn odd_certificates(&self) -> Vec<Odd> {
        type Change = fn(&mut CertificateParams);
        let changes: [(&'static str, Change); 9] = [
            ("unit of another make", |params| {
                params.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
            }),
            ("no node id", |params| params.distinguished_name.push(DnType::CommonName, "manager")),
            ("no cluster id", |params| params.distinguished_name.push(DnType::OrganizationName, "acme")),
            ("further name", |params| params.distinguished_name.push(DnType::CountryName, "FR")),
            ("no usage", |params| params.extended_key_usages.clear()),
            ("further usage", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning)),
            ("no basic constraints", |params| params.is_ca = IsCa::NoCa),
            ("further alternative name", |params| {
                params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from("example.org").unwrap()));
            }),
            ("long serial number", |params| {
                params.serial_number = Some(SerialNumber::from_slice(&[0x11; 20]));
            }),
        ];
        changes
            .into_iter()
            .map(|(what, change)| {
                let mut params = self.manager_params();
                change(&mut params);
                let key = PrivateKey::generate().unwrap();
                let signer = self.authority.key().private_key();
                let issuer = Issuer::from_ca_cert_der(self.root.der(), signer).unwrap();
                let der = params.signed_by(&key, &issuer).unwrap().into();
                Odd { what, der, key }
            })
            .collect()
    }

    fn manager_params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        let name = node(5).to_string();
        let unit = "coracle-manager";
        params.distinguished_name =
            x509::distinguished_name(&name, &self.root.cluster().to_string(), Some(unit));
        params.subject_alt_names = vec![
            SanType::DnsName(Ia5String::try_from(name).unwrap()),
            SanType::DnsName(Ia5String::try_from(unit).unwrap()),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&[0x11; 16]));
        x509::set_validity(&mut params, now(), x509::later(now(), DEFAULT_VALIDITY));
        params
    }
}
