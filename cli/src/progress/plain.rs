//! Progress without a terminal: few lines, none of them rewritten.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use coracle_proto::v1;

use super::{Renderer, summary};
use crate::error::say;

/// How long a reason to wait lasts before it is told: many pass at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows nothing.
pub(crate) struct Silent;

impl Renderer for Silent {
    fn show(&mut self, _: &v1::ServiceProgress) {}
    fn tick(&mut self) {}
    fn finish(&mut self, _: bool) {}
}

/// Tells the end, and before it what stands in the way.
pub(crate) struct Plain {
    name: String,
    last: Option<v1::ServiceProgress>,
    waiting_since: Option<Instant>,
    told: BTreeSet<String>,
}

impl Plain {
    /// For a service of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), last: None, waiting_since: None, told: BTreeSet::new() }
    }

    fn tell(&mut self, text: &str) {
        if self.told.insert(text.to_owned()) {
            say(&format!("{}: {text}", self.name));
        }
    }
}

impl Renderer for Plain {
    fn show(&mut self, progress: &v1::ServiceProgress) {
        let waited_for = self.last.as_ref().map_or(&[][..], |last| &last.waiting);
        if progress.waiting != waited_for {
            self.waiting_since = (!progress.waiting.is_empty()).then(Instant::now);
        }
        for error in summary::errors(progress) {
            self.tell(&format!("a task failed: {error}"));
        }
        self.last = Some(progress.clone());
    }

    fn tick(&mut self) {
        if self.waiting_since.is_some_and(|since| since.elapsed() > PATIENCE) {
            self.waiting_since = None;
            let waiting = self.last.as_ref().map_or_else(Vec::new, |last| last.waiting.clone());
            waiting.iter().for_each(|reason| self.tell(&format!("waiting: {reason}")));
        }
    }

    fn finish(&mut self, converged: bool) {
        // Otherwise an error follows, which says the same.
        if let Some(last) = self.last.clone().filter(|_| converged) {
            // What is left for later.
            last.waiting.iter().for_each(|reason| self.tell(reason));
            say(&format!("{}: {}", self.name, summary::line(&last)));
        }
    }
}
