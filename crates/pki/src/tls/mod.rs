//! TLS as the cluster speaks it: 1.3 only, both sides proven by the cluster's root, HTTP/2 inside.
//!
//! - [`SwappableIdentity`] ([`swap`]): what this process proves itself with. Replacing it acts on the
//!   next handshake; connections that stand are not touched.
//! - [`server_config`] ([`config`]): a client may come without a certificate (two methods allow
//!   that); a certificate that it does show must be good, or the handshake fails.
//! - [`client_config`]: the server must be the expected member of our cluster. DNS names and
//!   addresses are never part of the decision.
//! - [`joining_client_config`] and [`fetch_root_unverified`]: the two steps before there is an identity.
//!
//! Sessions are never resumed and early data is never accepted: a resumed session would skip the
//! verification of certificates, so that an expired or replaced one would live on.

mod config;
mod swap;
mod verify;

#[cfg(test)]
mod tests;

pub use config::{
    TlsError, client_config, fetch_root_unverified, joining_client_config, server_config, server_name,
};
pub(crate) use swap::Trust;
pub use swap::{IdentitySnapshot, ReplaceError, SwappableIdentity};
pub use verify::{ExpectedServer, PeerError};

/// The application protocol that both sides agree on (RFC 7301): HTTP/2.
pub const ALPN: &[u8] = b"h2";
