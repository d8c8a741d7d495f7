//! The log that the managers agree on, and the writes on their way to it.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::time::Duration;

use coracle_manager_core::{Change, Outcome, Proposal, Refusal, RefusalKind, State, Touched, apply};
use coracle_model::id::{NodeId, SessionId};
use coracle_model::time::Timestamp;

use crate::random::Random;
use crate::world::{Key, World};

/// Longest time from a proposal to its entry, in milliseconds.
const LATEST: u64 = 1800;

/// What its author does when a write has landed.
#[derive(Debug, Clone)]
pub enum Author {
    /// A planner: what else belongs to its plan, and when to plan again.
    Plan { key: Key, rest: Vec<Vec<Change>>, wake_at: Option<Timestamp> },
    /// The judge of nodes.
    Verdicts,
    /// The writer of statuses.
    Report { node: NodeId, session: SessionId, hello: bool },
    /// Nobody waits for it.
    Nobody,
}

/// A write on its way.
#[derive(Debug, Clone)]
pub struct Flight {
    pub due: Timestamp,
    /// Which manager's memory waits for it.
    pub lead: u64,
    pub proposal: Proposal,
    pub author: Author,
}

/// A write that has landed.
pub struct Landed {
    pub flight: Flight,
    pub result: Result<(), Refusal>,
    pub touched: Touched,
}

pub struct Log {
    pub world: World,
    /// True time; no clock shows it.
    pub now: Timestamp,
    pub term: u64,
    /// Whether writes get lost.
    pub lossy: bool,
    flights: Vec<Flight>,
    /// Another manager, which applies the same entries later.
    follower: State,
}

impl Log {
    pub fn new(mut world: World) -> Self {
        let now = world.now;
        let follower = world.state.clone();
        world.entries.clear();
        Self { world, now, term: 1, lossy: true, flights: Vec::new(), follower }
    }

    /// The time by a clock that is off by so many milliseconds.
    pub fn clock(&self, off: i64) -> Timestamp {
        let off_by = Duration::from_millis(off.unsigned_abs());
        if off < 0 {
            Timestamp::from_nanos(self.now.as_nanos().saturating_sub(off_by.as_nanos() as u64))
        } else {
            self.now.after(off_by)
        }
    }

    /// Sends a write on its way.
    pub fn propose(&mut self, random: &mut Random, lead: u64, proposal: Proposal, author: Author) {
        let due = self.now.after(Duration::from_millis(random.below(LATEST)));
        self.flights.push(Flight { due, lead, proposal, author });
    }

    /// Writes that land now, one after the other; the caller handles each before the next one lands.
    pub fn land_next(&mut self, random: &mut Random) -> Option<Landed> {
        let due: Vec<usize> =
            (0..self.flights.len()).filter(|at| self.flights[*at].due <= self.now).collect();
        if due.is_empty() {
            return None;
        }
        let mut flight = self.flights.remove(due[random.below(due.len() as u64) as usize]);
        if self.lossy && random.percent(4) {
            return Some(self.lose_answer(random, flight));
        }
        if self.lossy && random.percent(5) && matches!(flight.author, Author::Report { .. }) {
            // Said twice.
            let again = Flight { author: Author::Nobody, ..flight.clone() };
            self.propose(random, again.lead, again.proposal, again.author);
        }
        let (outcome, touched) = self.append(self.term, &flight.proposal);
        flight.due = self.now;
        Some(Landed { flight, result: outcome.into_result().map(drop), touched })
    }

    /// Its author is not told what became of a write.
    fn lose_answer(&mut self, random: &mut Random, flight: Flight) -> Landed {
        let mut touched = Touched::default();
        if random.percent(50) {
            // Who has proposed a plan makes sure that it is decided before the next one; others give up, and it may land all the same.
            if matches!(flight.author, Author::Plan { .. }) {
                touched = self.append(self.term, &flight.proposal).1;
            } else {
                let later = Flight { author: Author::Nobody, ..flight.clone() };
                self.propose(random, later.lead, later.proposal, later.author);
            }
        }
        Landed { flight, result: Err(Refusal::new(RefusalKind::NotLeader, "no answer")), touched }
    }

    /// Whatever was proposed in this term is decided: what has reached the log is written, what has not is lost.
    pub fn settle(&mut self, random: &mut Random) {
        let (present, older): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.proposal.term == self.term);
        self.flights = older;
        for flight in present {
            if random.percent(50) {
                self.append(self.term, &flight.proposal);
            }
        }
    }

    /// Adds an entry.
    pub fn append(&mut self, term: u64, proposal: &Proposal) -> (Outcome, Touched) {
        let before = self.world.state.clone();
        let result = self.world.append(term, proposal);
        if let Err(problem) =
            crate::invariants::older_terms_write_nothing(&before, &self.world.state, term, proposal)
        {
            panic!("{problem}");
        }
        if matches!(result.0, Outcome::Applied(_))
            && let Err(problem) =
                crate::invariants::rolled_back_is_as_before(&before, &self.world.state, proposal)
        {
            panic!("{problem}");
        }
        result
    }

    /// A new term: entries of the old one that a majority had are in the log before it begins, others are lost or
    /// arrive under the new leader.
    pub fn begin_term(&mut self, random: &mut Random) -> Touched {
        let mut touched = Touched::default();
        for flight in std::mem::take(&mut self.flights) {
            match random.below(3) {
                0 => touched.merge(self.append(self.term, &flight.proposal).1),
                1 => {}
                _ => self.flights.push(Flight { author: Author::Nobody, ..flight }),
            }
        }
        self.term += 1;
        touched
    }

    /// The other manager catches up, from a snapshot or entry by entry: its state must be the same.
    pub fn follow(&mut self, random: &mut Random) -> &State {
        let (head, entries) = (&self.world.state, std::mem::take(&mut self.world.entries));
        if random.percent(30) {
            self.follower = State::from_records(head.records()).unwrap();
        }
        for (term, proposal) in &entries {
            if self.follower.index() == head.index() {
                break;
            }
            let index = self.follower.index() + 1;
            apply(&mut self.follower, index, *term, proposal);
        }
        assert!(self.follower == *head, "two managers applied the same entries and differ");
        &self.follower
    }
}
