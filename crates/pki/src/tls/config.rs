//! Complete rustls configurations.

use std::sync::{Arc, LazyLock};

use coracle_model::role::Role;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};
use rustls_pki_types::ServerName;

use super::ALPN;
use super::swap::{SwappableIdentity, Trust};
use super::verify::{AnyServer, ClientVerifier, ExpectedServer, ServerVerifier, TrustSource};
use crate::key::KeyError;
use crate::name::{Subject, organizational_unit};
use crate::root::RootCertificate;

/// Why no TLS configuration can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refuses the root.
    #[error("root certificate cannot be used for TLS")]
    Root(#[source] rustls::Error),
    /// The library refuses to verify with the root.
    #[error("cannot verify clients with the root certificate")]
    Verifier(#[source] VerifierBuilderError),
    /// The library refuses the key.
    #[error("private key cannot be used for TLS")]
    Key(#[source] KeyError),
    /// The library does not know TLS 1.3 with its own cryptography.
    #[error("TLS 1.3 is not available")]
    Version(#[source] rustls::Error),
    /// Operators' certificates are for clients.
    #[error("{subject} cannot serve: only nodes have certificates for that")]
    NotANode {
        /// Who it is.
        subject: Subject,
    },
}

/// The cryptography that everything here uses: aws-lc, with a post-quantum key exchange preferred.
/// Given to each configuration, so that it does not matter whether the process has a default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The name to pass to rustls for every connection. It is neither sent nor verified.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(organizational_unit(Role::Manager)).expect("a role's unit is a valid DNS name")
}

/// What a node serves with. A client without a certificate is let in as nobody; one that shows a
/// certificate must be a member of this cluster whose certificate is valid now.
///
/// After the handshake, [`crate::PeerIdentity::from_verified`] over the first peer certificate says who it is.
///
/// # Errors
/// If the identity is an operator's.
pub fn server_config(identity: &SwappableIdentity) -> Result<ServerConfig, TlsError> {
    let current = identity.current();
    if current.identity().node().is_none() {
        return Err(TlsError::NotANode { subject: current.identity().subject().clone() });
    }
    let provider = provider();
    let verifier =
        ClientVerifier { identity: identity.clone(), algorithms: provider.signature_verification_algorithms };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Version)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// What a member connects with: shows its own certificate and accepts only `expected`.
///
/// # Errors
/// If rustls lacks TLS 1.3.
pub fn client_config(
    identity: &SwappableIdentity,
    expected: ExpectedServer,
) -> Result<ClientConfig, TlsError> {
    let verifier = server_verifier(TrustSource::Identity(identity.clone()), expected);
    let config = client_builder(verifier)?.with_client_cert_resolver(Arc::new(identity.clone()));
    Ok(finish_client(config))
}

/// What a machine connects with that has a join token and has verified `root` against it, but has no
/// certificate yet: accepts only a manager under that root.
///
/// # Errors
/// If rustls cannot use the root.
pub fn joining_client_config(root: &RootCertificate) -> Result<ClientConfig, TlsError> {
    let trust = TrustSource::Fixed(Arc::new(Trust::new(root)?));
    let verifier = server_verifier(trust, ExpectedServer::AnyManager);
    Ok(finish_client(client_builder(verifier)?.with_no_client_auth()))
}

/// What the very first connection of a machine is made with: **accepts any server**. It may carry
/// nothing but the call that fetches the root certificate, whose answer goes through
/// [`crate::JoinToken::verify_root_digest`].
///
/// # Errors
/// If rustls lacks TLS 1.3.
pub fn fetch_root_unverified() -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(AnyServer::new(&provider()));
    Ok(finish_client(client_builder(verifier)?.with_no_client_auth()))
}

fn server_verifier(trust: TrustSource, expected: ExpectedServer) -> Arc<dyn ServerCertVerifier> {
    let algorithms = provider().signature_verification_algorithms;
    Arc::new(ServerVerifier { trust, expected, algorithms })
}

type ClientBuilder = ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientBuilder, TlsError> {
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Version)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    config
}
