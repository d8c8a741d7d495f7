//! Finds the leader: known managers one after the other, redirections at once, waits that grow.

use std::sync::Arc;
use std::time::Duration;

use coracle_daemon::{Backoff, BackoffPolicy, ErrorChain};
use coracle_model::time::Timestamp;
use coracle_pki::tls::{ExpectedServer, client_config};
use rand::seq::SliceRandom as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use super::Links;
use super::fence::Fence;
use super::removal::Removal;
use super::stream::{End, hold};
use crate::desk::Event;
use crate::identity::utc;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Waits between tries.
const RETRY: BackoffPolicy = BackoffPolicy { first: Duration::from_millis(100), max: Duration::from_secs(2) };
/// A session that lasted this long makes the waits short again. Not one that was welcomed and closed: where two machines hold one
/// identity each closes the other's, and both would come back at once for ever.
const LASTING: Duration = Duration::from_secs(5);
/// Waits of a node that was removed: it asks on, for the case that it was a mistake.
const RETRY_REMOVED: BackoffPolicy =
    BackoffPolicy { first: Duration::from_secs(1), max: Duration::from_secs(60) };
/// Redirections followed without a wait, one after the other: managers may disagree on who leads for a moment.
const REDIRECTIONS: u32 = 3;
/// Tries without success between warnings.
const WARN_EVERY: u32 = 20;

/// Whom to try next.
#[derive(Debug, Default)]
struct Candidates {
    /// Where the last manager pointed to, or the one that the last session was with.
    first: Option<String>,
    rest: Vec<String>,
}

impl Candidates {
    /// The next one; begins anew with all that are known when each was tried.
    fn next(&mut self, known: &[String]) -> Option<String> {
        if let Some(first) = self.first.take() {
            self.rest.retain(|address| *address != first);
            return Some(first);
        }
        if self.rest.is_empty() {
            self.rest = known.to_vec();
            self.rest.shuffle(&mut rand::rng());
        }
        self.rest.pop()
    }
}

/// Holds sessions, one after the other, until `stop`.
pub(crate) async fn keep_session(links: Links, stop: CancellationToken) {
    let mut candidates = Candidates::default();
    let mut backoff = Backoff::new(RETRY);
    let mut redirections = 0;
    let mut removal = Removal::default();
    let mut fence = Fence::new(links.term);
    while !stop.is_cancelled() {
        let known = links.managers.borrow().clone();
        let Some(address) = candidates.next(&known) else {
            pause(&mut backoff, &stop).await;
            continue;
        };
        let pointed_to = redirections > 0;
        let began = tokio::time::Instant::now();
        let end = open(&links, &mut fence, &address, &stop).await;
        links.outgoing.outbox().interrupt();
        links.manager.send_replace(None);
        let welcomed = links.session_with.send_replace(None).is_some();
        if welcomed {
            links.tell(Event::Closed).await;
            // What is out of step at once may be so for ever: not in a tight loop.
            if !matches!(end, End::OutOfStep(_)) && is_settled(&backoff, began.elapsed()) {
                backoff = Backoff::new(RETRY);
            }
            redirections = 0;
            removal.welcomed();
        }
        match end {
            End::Stopped => return,
            End::Redirected(leader) if !leader.is_empty() && redirections < REDIRECTIONS => {
                debug!(manager = %address, %leader, "redirected");
                redirections += 1;
                candidates.first = Some(leader);
                continue;
            }
            End::Redirected(_) => redirections = 0,
            End::OutOfStep(reason) => {
                warn!(manager = %address, %reason, "session begins again");
                candidates.first = Some(address);
            }
            End::Removed(reason) => {
                redirections = 0;
                debug!(manager = %address, %reason, "no session");
                if removal.said(&address, pointed_to, &known, tokio::time::Instant::now()) {
                    links.tell(Event::Removed).await;
                    backoff = Backoff::new(RETRY_REMOVED);
                }
            }
            End::Ended(reason) if welcomed => info!(manager = %address, %reason, "session ended"),
            End::Ended(reason) => {
                debug!(manager = %address, %reason, "no session");
                if backoff.failures() % WARN_EVERY == WARN_EVERY - 1 {
                    warn!(manager = %address, %reason, tries = backoff.failures() + 1, "no manager can be reached");
                }
            }
        }
        pause(&mut backoff, &stop).await;
    }
}

/// Whether a session after which to begin with short waits again. That a node was removed is taken back by any that is welcomed.
fn is_settled(backoff: &Backoff, lasted: Duration) -> bool {
    lasted >= LASTING || backoff.policy() != RETRY
}

async fn pause(backoff: &mut Backoff, stop: &CancellationToken) {
    let delay = backoff.next_delay(rand::random());
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(delay) => {}
    }
}

async fn open(links: &Links, fence: &mut Fence, address: &str, stop: &CancellationToken) -> End {
    let channel = tokio::select! {
        () = stop.cancelled() => return End::Stopped,
        channel = connect(links, address) => channel,
    };
    match channel {
        Ok(channel) => hold(links, fence, address, channel, stop).await,
        Err(reason) => End::Ended(reason),
    }
}

async fn connect(links: &Links, address: &str) -> Result<Channel, String> {
    let end = links.identity.current().identity().peer().not_after().as_secs();
    if end < links.clock.now() / 1_000_000_000 {
        let end = utc(Timestamp::from_secs(end));
        return Err(format!("this node's certificate was good until {end} and has to be replaced first"));
    }
    let tls = client_config(&links.identity, ExpectedServer::AnyManager);
    let tls = tls.map_err(|error| ErrorChain(&error).to_string())?;
    match tokio::time::timeout(CONNECT, coracle_rpc::connect::channel(address, Arc::new(tls))).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(ErrorChain(&error).to_string()),
        Err(_) => Err(format!("{address} did not answer within {} s", CONNECT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_closed_at_once_makes_no_wait_short() {
        let backoff = Backoff::new(RETRY);
        assert!(!is_settled(&backoff, LASTING / 2));
        assert!(is_settled(&backoff, LASTING));
        assert!(is_settled(&Backoff::new(RETRY_REMOVED), Duration::ZERO), "it is a member again");
    }

    #[test]
    fn everybody_is_tried_once_before_anybody_twice() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let mut candidates = Candidates::default();
        for _ in 0..3 {
            let mut round: Vec<_> = (0..3).filter_map(|_| candidates.next(&known)).collect();
            round.sort();
            assert_eq!(round, known);
        }
        candidates.first = Some("b".to_owned());
        let mut round: Vec<_> = (0..3).filter_map(|_| candidates.next(&known)).collect();
        assert_eq!(round[0], "b");
        round.sort();
        assert_eq!(Candidates::default().next(&[]), None);
    }
}
