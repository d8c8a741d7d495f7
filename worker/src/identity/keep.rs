//! Keeps the node's identity good: renews it in time, gets another when it is over, follows the role that is wanted.

use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, Clock, ErrorChain};
use coracle_model::role::Role;
use coracle_model::time::Timestamp;
use coracle_pki::csr::request_certificate;
use coracle_pki::key::PrivateKey;
use coracle_pki::renewal::renewal_time;
use coracle_pki::{CertificateDer, NodeIdentity, PeerIdentity, SwappableIdentity};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{IdentityError, recover, renew, utc};
use crate::agent::NodeUpdate;

/// Waits between tries to renew.
const RETRY: BackoffPolicy =
    BackoffPolicy { first: Duration::from_millis(500), max: Duration::from_secs(60) };
/// The same while nothing works for want of a certificate.
const RETRY_OVER: BackoffPolicy =
    BackoffPolicy { first: Duration::from_millis(500), max: Duration::from_secs(5) };
/// Longest sleep until the time is looked at again: somebody may have set the clock.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// How long the leader must keep saying that this node was removed before that is acted on: it stops everything here.
const REMOVED_FOR: Duration = Duration::from_secs(5);
/// Tries to get a certificate from others before a manager gives itself one.
const TRIES_WITH_OTHERS: u32 = 2;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the node does for its identity.
#[tonic::async_trait]
pub trait KeepIdentity: Send + Sync + 'static {
    /// Writes it durably, so that the next start begins with it.
    ///
    /// # Errors
    /// If it could not be written: the old one stays in use, and is renewed again later.
    async fn keep(&self, identity: &NodeIdentity) -> Result<(), Failure>;

    /// A certificate for the key of `csr` by this node's own hand, while nobody else can give one: managers have the root's key in
    /// their state. Nothing from a node that is no manager.
    ///
    /// # Errors
    /// If there should be one and cannot.
    fn certify_self(
        &self,
        _present: &PeerIdentity,
        _csr: &[u8],
    ) -> Result<Option<CertificateDer<'static>>, Failure> {
        Ok(None)
    }

    /// The cluster says that this node is no member any more.
    async fn removed(&self) {}
}

/// What the next step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing before the certificate is due.
    Nothing,
    /// The certificate is due, or the node is to have another role.
    Renew,
    /// The certificate is over: no handshake accepts it.
    Recover,
}

fn need(now: Timestamp, due: Timestamp, end: Timestamp, other_role: bool) -> Need {
    if end < now {
        Need::Recover
    } else if due <= now || other_role {
        Need::Renew
    } else {
        Need::Nothing
    }
}

/// Keeps the identity valid and its role as the managers want it, until `stop`: renews it at a random point of its
/// life and whenever another role is wanted, gets a new one for a proof of its key when it is over, has it kept, and
/// swaps it while connections go on.
pub async fn keep_renewed(
    identity: SwappableIdentity,
    managers: watch::Receiver<Vec<String>>,
    mut wanted: watch::Receiver<Option<NodeUpdate>>,
    keeper: Arc<dyn KeepIdentity>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut renewal = Renewal { identity, managers, keeper, clock, removed: None };
    let (mut backoff, mut over) = (Backoff::new(RETRY), false);
    let mut due = renewal.due_time();
    loop {
        let now = renewal.now();
        let other_role = wanted_role(&wanted).is_some_and(|role| role != renewal.role());
        let needed = need(now, due, renewal.end(), other_role);
        if (needed == Need::Recover) != over {
            over = needed == Need::Recover;
            backoff = Backoff::new(if over { RETRY_OVER } else { RETRY });
            if over {
                let (end, now) = (utc(renewal.end()), utc(now));
                warn!(
                    end,
                    now, "this node's certificate is over by its clock; asking the managers for another"
                );
            }
        }
        let wait = match needed {
            _ if backoff.failures() > 0 => backoff.next_delay(rand::random()),
            Need::Nothing => due.since(now).min(LOOK_AGAIN),
            Need::Renew | Need::Recover => Duration::ZERO,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        let done = match needed {
            Need::Nothing => {
                backoff.reset();
                continue;
            }
            Need::Renew => renewal.renew().await,
            Need::Recover => renewal.recover(backoff.failures()).await,
        };
        match done {
            Ok(Renewed { role, lasting }) => {
                info!(%role, "certificate renewed");
                due = if lasting { renewal.due_time() } else { Timestamp::EPOCH };
                // A manager that does not know yet of a role that another one announced: not in a tight loop.
                backoff.reset();
                if wanted_role(&wanted).is_some_and(|wanted| wanted != role) {
                    backoff.next_delay(0);
                }
            }
            Err(error) => {
                let now = utc(renewal.now());
                warn!(%error, now, tries = backoff.failures() + 1, "certificate was not renewed");
                if backoff.failures() == 0 {
                    backoff.next_delay(0);
                }
            }
        }
    }
}

fn wanted_role(wanted: &watch::Receiver<Option<NodeUpdate>>) -> Option<Role> {
    wanted.borrow().map(|update| update.role)
}

/// What was got.
struct Renewed {
    role: Role,
    /// Not one that this node gave itself, which is to be replaced at once.
    lasting: bool,
}

struct Renewal {
    identity: SwappableIdentity,
    managers: watch::Receiver<Vec<String>>,
    keeper: Arc<dyn KeepIdentity>,
    clock: Arc<dyn Clock>,
    /// Since when the cluster says that this node was removed; nothing is told twice.
    removed: Option<(Instant, bool)>,
}

impl Renewal {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now())
    }

    fn role(&self) -> Role {
        self.identity.current().identity().role()
    }

    fn end(&self) -> Timestamp {
        Timestamp::from_secs(self.identity.current().identity().peer().not_after().as_secs())
    }

    fn due_time(&self) -> Timestamp {
        let current = self.identity.current();
        Timestamp::from_secs(renewal_time(current.identity().peer(), rand::random()).as_secs())
    }

    fn known(&self) -> Vec<String> {
        self.managers.borrow().clone()
    }

    async fn renew(&self) -> Result<Renewed, String> {
        let (renewed, _) = renew(&self.identity, &self.known()).await.map_err(|error| text(&error))?;
        self.take(renewed, true).await
    }

    /// Asks others; a manager that nobody answers after some tries gives itself a certificate.
    async fn recover(&mut self, tries: u32) -> Result<Renewed, String> {
        match recover(&self.identity, &self.known(), self.now()).await {
            Ok((recovered, _)) => {
                self.removed = None;
                self.take(recovered, true).await
            }
            Err(error) => {
                self.on_refusal(&error).await;
                if error.is_verdict() || tries + 1 < TRIES_WITH_OTHERS {
                    return Err(text(&error));
                }
                match self.certify_self()? {
                    Some(own) => self.take(own, false).await,
                    None => Err(text(&error)),
                }
            }
        }
    }

    async fn on_refusal(&mut self, error: &IdentityError) {
        if !error.is_removal() {
            return;
        }
        match self.removed {
            None => self.removed = Some((Instant::now(), false)),
            Some((since, false)) if since.elapsed() >= REMOVED_FOR => {
                self.removed = Some((since, true));
                self.keeper.removed().await;
            }
            Some(_) => {}
        }
    }

    fn certify_self(&self) -> Result<Option<NodeIdentity>, String> {
        let current = self.identity.current();
        let old = current.identity();
        let key = PrivateKey::generate().map_err(|error| error.to_string())?;
        let csr = request_certificate(&key).map_err(|error| text(&error))?;
        let given = self.keeper.certify_self(old.peer(), &csr).map_err(|error| error.to_string())?;
        let Some(certificate) = given else { return Ok(None) };
        let own = NodeIdentity::new(vec![certificate], key, old.root().clone());
        own.map(Some).map_err(|error| text(&error))
    }

    async fn take(&self, renewed: NodeIdentity, lasting: bool) -> Result<Renewed, String> {
        let role = renewed.role();
        self.keeper.keep(&renewed).await.map_err(|error| format!("identity was not kept: {error}"))?;
        self.identity.replace(renewed).map_err(|error| text(&error))?;
        Ok(Renewed { role, lasting })
    }
}

fn text(error: &(dyn std::error::Error + 'static)) -> String {
    ErrorChain(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_follows_the_clock() {
        let at = Timestamp::from_secs;
        let (due, end) = (at(50), at(100));
        assert_eq!(need(at(49), due, end, false), Need::Nothing);
        assert_eq!(need(at(50), due, end, false), Need::Renew);
        assert_eq!(need(at(49), due, end, true), Need::Renew);
        assert_eq!(need(at(100), due, end, false), Need::Renew, "the last second is good");
        assert_eq!(need(at(101), due, end, false), Need::Recover);
        assert_eq!(need(at(101), due, end, true), Need::Recover);
    }
}
