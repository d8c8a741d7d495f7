//! Identity as values: the cluster's root, join tokens, certificates, TLS configurations, tickets.
//!
//! Nothing here opens a socket, reads a file or waits. Time is always an argument
//! ([`UnixTime`]), except inside a TLS handshake, where rustls asks the system clock.
//! Who may call *what* is not decided here either: that is the access table in the wire crate.
//!
//! How a machine becomes a member:
//!
//! 1. it makes a key and a request ([`csr`]) and holds a join token ([`token`]);
//! 2. it fetches the root certificate over a connection it cannot trust yet
//!    ([`tls::fetch_root_unverified`]) and compares its digest with the token's
//!    ([`token::JoinToken::verify_root_digest`]) before the token's secret goes anywhere;
//! 3. it connects again, trusting that root only ([`tls::joining_client_config`]), and shows the token;
//! 4. a manager finds the role that the token stands for ([`token::TokenSecrets::role_of`]) and
//!    issues a certificate whose names are the manager's choice alone ([`issue`]);
//! 5. from then on both sides of every connection show certificates ([`tls::SwappableIdentity`]),
//!    and [`identity::PeerIdentity`] says who the other side is.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod base36;
pub mod bundle;
pub mod csr;
pub mod identity;
pub mod issue;
pub mod key;
pub mod recovery;
pub mod renewal;
pub mod root;
pub mod ticket;
pub mod tls;
pub mod token;

mod name;
mod pem;
mod x509;

#[cfg(test)]
mod testing;

pub use bundle::NodeIdentity;
pub use identity::{PeerIdentity, Serial};
pub use issue::Authority;
pub use name::{OperatorName, OperatorNameError, Subject};
pub use root::{RootCertificate, RootDigest, RootKey};
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use ticket::{Ticket, TicketKey, TicketPublicKey};
pub use tls::SwappableIdentity;
pub use token::JoinToken;
