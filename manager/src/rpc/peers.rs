//! Channels to the other managers, one per address and purpose, each to exactly the node that is meant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_pki::tls::{self, ExpectedServer, SwappableIdentity};
use coracle_proto::status::{ApiError, Reason};
use coracle_rpc::connect;
use tonic::transport::Channel;

use super::book::AddressBook;
use crate::raft::{ConnectError, PeerConnector};

/// Makes channels to other managers and keeps them.
#[derive(Debug, Clone)]
pub struct Peers {
    identity: SwappableIdentity,
    book: AddressBook,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Peers {
    /// Channels that show this identity.
    #[must_use]
    pub fn new(identity: SwappableIdentity) -> Self {
        Self { identity, book: AddressBook::default(), channels: Arc::default() }
    }

    /// Where managers are that have moved.
    #[must_use]
    pub const fn book(&self) -> &AddressBook {
        &self.book
    }

    /// A new channel to the manager at `address`; connects when it is used.
    ///
    /// # Errors
    /// If the address or the identity cannot be used.
    pub fn open(&self, address: &str) -> Result<Channel, ApiError> {
        let unusable =
            |error: String| ApiError::new(Reason::Internal, format!("manager at {address}: {error}"));
        let tls = tls::client_config(&self.identity, ExpectedServer::AnyManager)
            .map_err(|e| unusable(e.to_string()))?;
        connect::channel_lazy(address, Arc::new(tls)).map_err(|e| unusable(e.to_string()))
    }

    /// The kept channel to the manager at `address`.
    ///
    /// # Errors
    /// If the address or the identity cannot be used.
    pub fn kept(&self, address: &str) -> Result<Channel, ApiError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.open(address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

impl PeerConnector for Peers {
    fn channel(&self, raft_id: u64, address: &str) -> Result<Channel, ConnectError> {
        let tls = tls::client_config(&self.identity, ExpectedServer::AnyManager)?;
        connect::parse_address(address)?;
        let (book, address) = (self.book.clone(), address.to_owned());
        let place = move || connect::parse_address(&book.at_last(raft_id, &address));
        Ok(connect::channel_to(place, Arc::new(tls)))
    }
}
