//! One client: asks a manager, goes to the next when it gets no answer, and writes down what it saw.

use std::future::Future;
use std::time::{Duration, Instant};

use coracle_history::{Answer, History, Kind};
use coracle_proto::status::{ApiError, Reason};
use tonic::transport::Channel;

use super::Random;
use crate::api::Api;

/// The registers of all clients, by name, with their values.
pub(super) type Seen = History<String, String>;

/// How long one attempt may take: most clients go to another manager soon.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// A patient client waits for what a manager says when it gives up itself, which takes it ten seconds.
const PATIENT: Duration = Duration::from_secs(12);
/// Every so many-th client is patient.
const PATIENT_EVERY: u32 = 3;
/// Under this key in a status the cluster says why it refused; a status without it comes from the transport.
const REASON: &str = "coracle-reason";

/// Why there is no answer to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not done.
    Refused,
    /// It may have been done.
    Unknown,
}

/// A client with connections to all managers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u32,
    pub(super) random: Random,
    pub(super) history: Seen,
    managers: Vec<Api>,
    at: usize,
    epoch: Instant,
    last_write: Instant,
    longest_gap: Duration,
    written: u32,
}

impl Client {
    pub(super) fn new(number: u32, managers: &[Api], epoch: Instant, mut random: Random) -> Self {
        let managers: Vec<Api> = managers.iter().map(Api::holding).collect();
        let at = usize::try_from(random.below(managers.len() as u64)).unwrap_or_default();
        let last_write = Instant::now();
        let (history, longest_gap) = (Seen::new(), Duration::ZERO);
        Self { number, random, history, managers, at, epoch, last_write, longest_gap, written: 0 }
    }

    /// A value that nobody else writes.
    pub(super) fn new_value(&mut self) -> String {
        self.written += 1;
        format!("v{}.{}", self.number, self.written)
    }

    /// The moment, by the clock of all clients.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Asks once.
    pub(super) fn ask<T, F>(&mut self, call: impl FnOnce(Channel) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let manager = &self.managers[self.at];
        let deadline = if self.number.is_multiple_of(PATIENT_EVERY) { PATIENT } else { DEADLINE };
        let answer = manager.call(deadline, call(manager.channel()));
        answer.map_err(|error| {
            self.at = (self.at + 1) % self.managers.len();
            error.downcast_ref::<tonic::Status>().map_or(Failure::Unknown, classify)
        })
    }

    /// Asks for a write that the cluster recognises when it is repeated, until there is an answer or several attempts
    /// were in vain. Once one attempt was, a later refusal says nothing about it.
    pub(super) fn ask_again<T, F>(&mut self, call: impl Fn(Channel) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut attempts = 3;
        let mut in_doubt = false;
        loop {
            attempts -= 1;
            match self.ask(&call) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused) if !in_doubt => return Err(Failure::Refused),
                Err(_) if attempts == 0 => return Err(Failure::Unknown),
                Err(Failure::Unknown) => in_doubt = true,
                Err(Failure::Refused) => {}
            }
            std::thread::sleep(Duration::from_millis(self.random.below(300)));
        }
    }

    /// Writes a write down, by what came back: its version.
    pub(super) fn wrote(
        &mut self,
        key: String,
        kind: Kind<String>,
        invoked_at: u64,
        outcome: Result<u64, Failure>,
    ) {
        let answer = match outcome {
            Ok(version) => {
                self.longest_gap = self.longest_gap.max(self.last_write.elapsed());
                self.last_write = Instant::now();
                Answer::written(version)
            }
            Err(Failure::Refused) => Answer::Refused,
            Err(Failure::Unknown) => Answer::Unknown,
        };
        let completed_at = self.now();
        self.history.record(self.number, key, kind, invoked_at, completed_at, answer);
    }

    /// Writes a read down.
    pub(super) fn read(
        &mut self,
        key: String,
        invoked_at: u64,
        completed_at: u64,
        index: u64,
        value: Option<String>,
    ) {
        let answer = Answer::read(index, value);
        self.history.record(self.number, key, Kind::Read, invoked_at, completed_at, answer);
    }

    /// What it saw, and its longest time without an acknowledged write.
    pub(super) fn finish(self) -> (Seen, Duration) {
        (self.history, self.longest_gap)
    }
}

fn classify(status: &tonic::Status) -> Failure {
    let refused = match status.metadata().get(REASON) {
        Some(_) => !matches!(ApiError::from_status(status).reason, Reason::OutcomeUnknown | Reason::Internal),
        // What the transport says is no promise.
        None => never_connected(status),
    };
    if refused { Failure::Refused } else { Failure::Unknown }
}

/// Whether the call failed before anything was sent.
fn never_connected(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_cluster_promises_counts_as_refused() {
        let told = |reason| classify(&ApiError::new(reason, "x").into());
        for reason in [Reason::Stale, Reason::NotLeader, Reason::Unavailable, Reason::Exists] {
            assert_eq!(told(reason), Failure::Refused, "{reason}");
        }
        assert_eq!(told(Reason::OutcomeUnknown), Failure::Unknown);
        assert_eq!(told(Reason::Internal), Failure::Unknown);
        // A connection that broke has the same code as a promise.
        assert_eq!(classify(&tonic::Status::unavailable("connection reset")), Failure::Unknown);
    }
}
