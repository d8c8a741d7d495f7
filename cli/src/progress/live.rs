//! Progress on a terminal: a line for each slot, or a bar for all of them.

use std::time::Duration;

use coracle_model::task::TaskState;
use coracle_proto::v1;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Renderer, summary};
use crate::output::table::cut;
use crate::output::{printable, words};

/// Slots with a line of their own, as in Docker's.
const LINES: usize = 20;
/// Characters of a line's text.
const WIDTH: usize = 110;
/// Steps to running.
const STEPS: [TaskState; 8] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
];

/// Lines that are rewritten in place.
pub(crate) struct Live {
    lines: MultiProgress,
    overall: ProgressBar,
    slots: Vec<ProgressBar>,
    waiting: ProgressBar,
}

impl Live {
    /// For a service of this name.
    pub(crate) fn new(name: &str) -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let overall = lines.add(ProgressBar::new(1));
        overall.set_style(style("{prefix}: {msg} {bar:20}"));
        overall.set_prefix(name.to_owned());
        overall.enable_steady_tick(Duration::from_millis(200));
        let waiting = lines.add(ProgressBar::new(0));
        waiting.set_style(style("{msg}"));
        Self { lines, overall, slots: Vec::new(), waiting }
    }

    fn show_slots(&mut self, progress: &v1::ServiceProgress) {
        let shown = if progress.slots.len() > LINES { &[][..] } else { &progress.slots[..] };
        for gone in self.slots.drain(shown.len().min(self.slots.len())..) {
            self.lines.remove(&gone);
        }
        while self.slots.len() < shown.len() {
            let line = self.lines.insert_before(&self.waiting, ProgressBar::new(STEPS.len() as u64 - 1));
            line.set_style(style("  {prefix}: {bar:8} {msg}"));
            self.slots.push(line);
        }
        let total = shown.len();
        for (line, slot) in self.slots.iter().zip(shown) {
            line.set_prefix(label(slot, total));
            line.set_position(step(slot.state));
            line.set_message(text(slot));
        }
    }
}

impl Renderer for Live {
    fn show(&mut self, progress: &v1::ServiceProgress) {
        let counts = progress.counts.unwrap_or_default();
        let (length, position) = match counts.total {
            0 => (counts.desired, counts.running.min(progress.up_to_date).min(counts.desired)),
            total => (total, counts.completed),
        };
        self.overall.set_length(length.max(1));
        self.overall.set_position(position);
        self.overall.set_message(summary::line(progress));
        self.show_slots(progress);
        let reasons = cut(&printable(&progress.waiting.join("; ")), WIDTH);
        self.waiting.set_message(if reasons.is_empty() { reasons } else { format!("waiting: {reasons}") });
    }

    fn tick(&mut self) {}

    fn finish(&mut self, converged: bool) {
        // What is left for later stays to be read; otherwise an error follows, which says the same.
        if converged && !self.waiting.message().is_empty() {
            self.waiting.abandon();
        } else {
            self.waiting.finish_and_clear();
        }
        self.slots.iter().for_each(ProgressBar::abandon);
        if converged { self.overall.finish() } else { self.overall.abandon() }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn label(slot: &v1::SlotProgress, total: usize) -> String {
    match slot.slot.as_ref().and_then(|slot| slot.slot.as_ref()) {
        Some(v1::slot::Slot::Number(number)) => format!("{number}/{total}"),
        _ if slot.node_hostname.is_empty() => cut(&words::slot(slot.slot.as_ref()), 12),
        _ => printable(&slot.node_hostname),
    }
}

fn step(state: u32) -> u64 {
    STEPS.iter().rposition(|step| u32::from(step.number()) <= state).unwrap_or(0) as u64
}

fn text(slot: &v1::SlotProgress) -> String {
    let state = words::task_state(slot.state);
    let on =
        if slot.node_hostname.is_empty() { String::new() } else { format!(" on {}", slot.node_hostname) };
    let error = if slot.error.is_empty() { String::new() } else { format!(": {}", slot.error) };
    cut(&printable(&format!("{state}{on}{error}")), WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_says_where_it_is() {
        let slot = v1::SlotProgress {
            slot: Some(v1::Slot { slot: Some(v1::slot::Slot::Number(2)) }),
            node_hostname: "worker-1".to_owned(),
            state: 320,
            error: String::new(),
        };
        assert_eq!((label(&slot, 3), text(&slot)), ("2/3".to_owned(), "preparing on worker-1".to_owned()));
        assert_eq!((step(0), step(320), step(512), step(704)), (0, 4, 7, 7));
    }
}
