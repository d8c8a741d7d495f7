//! Two machines with one identity (a machine was copied with its state folder): each takes the other's session.
//!
//! One that changes its address, or whose connection is cut, takes its own session over, once or twice, and mostly from the same
//! place. Only those from another place count, so that a node with a bad network is never kept out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use coracle_model::id::NodeId;

/// How many times a node may be taken over from another place within [`WINDOW`].
const TAKEOVERS: usize = 3;
/// Within which they count, and for how long newcomers are refused after them.
const WINDOW: Duration = Duration::from_secs(10);

/// From where an agent holds its session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The other end of its connection.
    pub peer: Option<IpAddr>,
    /// Where it says that it is reached, `IP:PORT`.
    pub advertised: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(out, "{peer} (reached at {})", self.advertised),
            None => out.write_str(&self.advertised),
        }
    }
}

/// A newcomer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} connects from {present} and from {newcomer}: of two machines with one state folder one has to go; stop its daemon, \
     remove its state folder, and let it join as a node of its own"
)]
pub struct Refused {
    /// Which node.
    pub node: NodeId,
    /// Who holds the session and keeps it.
    pub present: String,
    /// Who was refused.
    pub newcomer: String,
    /// The first of those that are refused together: operators are to know.
    pub first: bool,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Rivalry {
    takeovers: Vec<Instant>,
    refused_until: Option<Instant>,
}

/// Nodes that were taken over from another place.
#[derive(Debug, Default)]
pub(super) struct Rivals(BTreeMap<NodeId, Rivalry>);

impl Rivals {
    /// `newcomer` wants to take the place of `present`.
    ///
    /// # Errors
    /// If that happened too often.
    pub(super) fn take_over(
        &mut self,
        node: NodeId,
        present: &Origin,
        newcomer: &Origin,
        now: Instant,
    ) -> Result<(), Refused> {
        if present == newcomer {
            return Ok(());
        }
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        self.0.retain(|_, rivalry| {
            rivalry.takeovers.retain(is_recent);
            rivalry.refused_until = rivalry.refused_until.filter(|until| now < *until);
            !rivalry.takeovers.is_empty() || rivalry.refused_until.is_some()
        });
        let rivalry = self.0.entry(node).or_default();
        let refused =
            |first| Refused { node, present: present.to_string(), newcomer: newcomer.to_string(), first };
        if rivalry.refused_until.is_some() {
            return Err(refused(false));
        }
        if rivalry.takeovers.len() >= TAKEOVERS {
            *rivalry = Rivalry { takeovers: Vec::new(), refused_until: Some(now + WINDOW) };
            return Err(refused(true));
        }
        rivalry.takeovers.push(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(last: u8) -> Origin {
        Origin { peer: Some(IpAddr::from([10, 0, 0, last])), advertised: format!("10.0.0.{last}:2377") }
    }

    /// Two places take over in turns, this long after one another: who was refused, and whether as the first.
    fn fight(places: [u8; 2], times: usize, apart: Duration) -> Vec<Option<bool>> {
        let (mut rivals, began, mut present) = (Rivals::default(), Instant::now(), places[0]);
        let mut turn = |number: usize| {
            let newcomer = if present == places[0] { places[1] } else { places[0] };
            let now = began + apart * u32::try_from(number).unwrap();
            match rivals.take_over(NodeId::from_bits(1), &origin(present), &origin(newcomer), now) {
                Ok(()) => {
                    present = newcomer;
                    None
                }
                Err(refused) => {
                    let places = (origin(present).to_string(), origin(newcomer).to_string());
                    assert_eq!((refused.present, refused.newcomer), places);
                    Some(refused.first)
                }
            }
        };
        (0..times).map(&mut turn).collect()
    }

    #[test]
    fn the_fourth_takeover_is_refused_for_a_while_and_said_once() {
        let (no, first, again) = (None, Some(true), Some(false));
        let second = Duration::from_secs(1);
        let seen = fight([1, 2], 15, second);
        assert_eq!(seen[..5], [no, no, no, first, again]);
        assert_eq!(seen[12..], [again, no, no], "after ten seconds one may come again");
        assert_eq!(fight([1, 2], 20, second * 4), [no; 20], "rarely: addresses change");
        assert_eq!(fight([1, 1], 20, second / 10), [no; 20], "its own session");
    }

    #[test]
    fn operators_learn_where_both_machines_are() {
        let (present, newcomer) = (origin(1).to_string(), origin(2).to_string());
        let refused = Refused { node: NodeId::from_bits(1), present, newcomer, first: true };
        let text = refused.to_string();
        for part in [&refused.node.to_string(), "10.0.0.1:2377", "10.0.0.2:2377", "one has to go"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
