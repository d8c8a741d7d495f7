//! The identity that a running process proves itself with, replaceable at any time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use coracle_model::id::ClusterId;
use rustls::client::ResolvesClientCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};

use super::config::{TlsError, provider};
use crate::bundle::NodeIdentity;
use crate::name::Subject;
use crate::root::RootCertificate;

/// A root in the forms that verification needs.
#[derive(Debug)]
pub(crate) struct Trust {
    cluster: ClusterId,
    anchors: Arc<RootCertStore>,
    client_chain_verifier: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    pub(crate) fn new(root: &RootCertificate) -> Result<Self, TlsError> {
        let mut anchors = RootCertStore::empty();
        anchors.add(root.der().clone()).map_err(TlsError::Root)?;
        let anchors = Arc::new(anchors);
        let client_chain_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&anchors), provider())
                .build()
                .map_err(TlsError::Verifier)?;
        Ok(Self { cluster: root.cluster(), anchors, client_chain_verifier })
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(crate) fn anchors(&self) -> &RootCertStore {
        &self.anchors
    }

    pub(crate) fn client_chain_verifier(&self) -> &dyn ClientCertVerifier {
        self.client_chain_verifier.as_ref()
    }
}

/// An identity as it is at one moment.
#[derive(Debug)]
pub struct IdentitySnapshot {
    identity: NodeIdentity,
    generation: u64,
    certified_key: Arc<CertifiedKey>,
    trust: Arc<Trust>,
}

impl IdentitySnapshot {
    fn new(identity: NodeIdentity, generation: u64) -> Result<Self, TlsError> {
        let key = identity.key().to_rustls().map_err(TlsError::Key)?;
        let certified_key = Arc::new(CertifiedKey::new(identity.chain().to_vec(), key));
        let trust = Arc::new(Trust::new(identity.root())?);
        Ok(Self { identity, generation, certified_key, trust })
    }

    /// The identity.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// 1 for the first identity, one more for each that replaced it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }
}

/// Why an identity may not replace another.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It is somebody else's.
    #[error(
        "identity of {new} in cluster {new_cluster} cannot replace that of {old} in cluster {old_cluster}: only role and key of the same node may change, restart to become another"
    )]
    SomebodyElse {
        /// Whose identity is in use.
        old: Subject,
        /// Of which cluster.
        old_cluster: ClusterId,
        /// Whose is offered.
        new: Subject,
        /// Of which cluster.
        new_cluster: ClusterId,
    },
    /// It cannot be used for TLS.
    #[error("identity cannot be used for TLS")]
    Tls(#[from] TlsError),
}

type Observer = Box<dyn Fn(&IdentitySnapshot) + Send + Sync>;

struct Shared {
    current: ArcSwap<IdentitySnapshot>,
    /// Also held while an identity is replaced, so that generations and calls keep their order.
    observers: Mutex<Vec<Observer>>,
}

/// A handle on the identity of this process; clones share it.
///
/// The TLS configurations made from a handle ask it at every handshake, so that a renewed certificate,
/// a changed role or another root is used from then on while standing connections go on.
#[derive(Clone)]
pub struct SwappableIdentity {
    shared: Arc<Shared>,
}

impl SwappableIdentity {
    /// Begins with `identity`, generation 1.
    ///
    /// # Errors
    /// If rustls cannot use its key or root.
    pub fn new(identity: NodeIdentity) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(IdentitySnapshot::new(identity, 1)?);
        Ok(Self { shared: Arc::new(Shared { current, observers: Mutex::default() }) })
    }

    /// The identity in use.
    pub fn current(&self) -> Arc<IdentitySnapshot> {
        self.shared.current.load_full()
    }

    /// The generation in use.
    pub fn generation(&self) -> u64 {
        self.shared.current.load().generation
    }

    /// Uses `identity` from now on, tells the observers, and returns its generation.
    ///
    /// # Errors
    /// If it is not of the same node (or operator) and cluster, or rustls cannot use it. The old one
    /// stays in use then.
    pub fn replace(&self, identity: NodeIdentity) -> Result<u64, ReplaceError> {
        // A panicking observer leaves the list whole.
        let observers = self.shared.observers.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let same_holder = identity.subject().common_name() == old.identity.subject().common_name()
            && identity.node() == old.identity.node();
        if !same_holder || identity.cluster() != old.identity.cluster() {
            return Err(ReplaceError::SomebodyElse {
                old: old.identity.subject().clone(),
                old_cluster: old.identity.cluster(),
                new: identity.subject().clone(),
                new_cluster: identity.cluster(),
            });
        }
        let generation = old.generation + 1;
        let snapshot = Arc::new(IdentitySnapshot::new(identity, generation)?);
        self.shared.current.store(Arc::clone(&snapshot));
        for observer in observers.iter() {
            observer(&snapshot);
        }
        Ok(generation)
    }

    /// Calls `observer` after each replacement, on the thread that replaces. It must be quick and must
    /// not call back into this handle's `replace` or `watch`; feeding a watch channel is what it is for.
    pub fn watch(&self, observer: impl Fn(&IdentitySnapshot) + Send + Sync + 'static) {
        self.shared.observers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(observer));
    }
}

impl fmt::Debug for SwappableIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.shared.current.load();
        formatter
            .debug_struct("SwappableIdentity")
            .field("subject", current.identity.subject())
            .field("generation", &current.generation)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for SwappableIdentity {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shared.current.load().certified_key))
    }
}

impl ResolvesClientCert for SwappableIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shared.current.load().certified_key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
