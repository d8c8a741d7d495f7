//! What to do next with one task, as a pure stepper: an [`Input`] leads to [`Action`]s and perhaps a new status.
//!
//! ```text
//! fetching ─▶ creating ─▶ created ─▶ starting ─▶ running ─▶ stopping ─▶ ended
//!                 ▲                                  │                    │ no manager hears of it,
//!                 └────────────── waiting ◀──────────┴────────────────────┘ and the policy allows it
//! ```
//!
//! Before `stopping` comes `leaving`, if the service asks for a delay between leaving the routing and the stop signal.
//! With a health check, the process runs while the task is still `STARTING`; the first success makes it `RUNNING`.
//!
//! Nothing is remembered that could not be seen: an agent that starts begins with what the runtime says
//! ([`Reality`]) and what the journal holds, so it goes on wherever the last one stopped.
//! The container is deleted once the managers have acknowledged its end: until then it is the proof of it.

mod health;

use std::time::Duration;

use coracle_model::health::{HealthCheck, HealthResult};
use coracle_model::restart::RestartPolicy;
use coracle_model::task::{DesiredState, Exit, TaskState, TaskStatus};
use coracle_model::time::Timestamp;

use super::restart::{CrashLoop, History};
use crate::health::{Monitor, why_unhealthy};

/// Time after which a kill that showed no effect is repeated.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// What the runtime knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reality {
    /// There is none.
    Absent,
    /// Setting it up did not come to an end.
    Broken {
        /// Why, as far as that is known: the same text that making or starting it would have failed with.
        why: String,
    },
    /// It waits to be started.
    Created,
    /// It runs.
    Running {
        /// Process id of its first process, as the host sees it.
        pid: u32,
    },
    /// It ended.
    Ended {
        /// How.
        exit: Exit,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// First of all: what there is.
    Begin(Reality),
    /// What managers want; never less than before.
    Desired(DesiredState),
    /// Whether the managers can be reached no more.
    Offline(bool),
    /// The managers have the present, terminal status.
    Acknowledged,
    /// The task is no longer this node's: stop it and leave nothing.
    Dropped,
    /// How the fetching of the image goes.
    Progress(String),
    Fetched(Result<(), String>),
    /// With the container's health check, if it has one.
    Created(Result<Option<HealthCheck>, String>),
    Started(Result<u32, String>),
    Exited(Exit),
    Checked(HealthResult),
    Timer,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell of the present status.
    Report,
    /// Have the image; answered by `Fetched`.
    Fetch,
    /// Stop fetching; nothing answers any more.
    CancelFetch,
    /// Make the container; answered by `Created`. Delete what there is of it before, if so told.
    Create {
        leftovers: bool,
    },
    /// Start it; answered by `Started`.
    Start,
    /// Answer with `Exited` when it ended.
    Watch,
    /// Run the health check; answered by `Checked`.
    Check {
        command: Vec<String>,
        timeout: Duration,
    },
    /// Nothing answers a check that is under way any more.
    CancelCheck,
    /// Send the stop signal.
    Signal,
    /// Kill whatever runs in it.
    Kill,
    /// Answer with `Timer` after this time; replaces an earlier one.
    Timer(Duration),
    CancelTimer,
    /// Delete the container; it may be absent.
    Delete,
    /// Nothing is left to do, ever.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Fetching,
    Creating,
    Created,
    Starting,
    Running,
    /// Runs on while it is no longer sent anything new.
    Leaving,
    Stopping,
    /// Until this node starts it again.
    Waiting {
        exit: Exit,
    },
    Ended,
    Gone,
}

/// What of a task's specification and journal the machine needs.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) desired: DesiredState,
    pub(crate) status: TaskStatus,
    /// The managers have that status.
    pub(crate) acknowledged: bool,
    pub(crate) history: History,
    pub(crate) restart: RestartPolicy,
    pub(crate) stop_grace: Duration,
    pub(crate) pre_stop_delay: Duration,
}

/// One task.
#[derive(Debug)]
pub(crate) struct Machine {
    phase: Phase,
    desired: DesiredState,
    status: TaskStatus,
    acknowledged: bool,
    offline: bool,
    dropped: bool,
    history: History,
    crashes: CrashLoop,
    restart: RestartPolicy,
    stop_grace: Duration,
    pre_stop_delay: Duration,
    check: Option<HealthCheck>,
    /// While the process runs and has a check.
    monitor: Option<Monitor>,
}

impl Machine {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            phase: Phase::New,
            desired: setup.desired,
            acknowledged: setup.acknowledged && setup.status.state.is_terminal(),
            status: setup.status,
            offline: false,
            dropped: false,
            history: setup.history,
            crashes: CrashLoop::default(),
            restart: setup.restart,
            stop_grace: setup.stop_grace,
            pre_stop_delay: setup.pre_stop_delay,
            check: None,
            monitor: None,
        }
    }

    /// Says how a container that may be there already is checked; before the first input.
    pub(crate) fn is_checked_by(&mut self, check: Option<HealthCheck>) {
        self.check = check;
    }

    pub(crate) fn status(&self) -> &TaskStatus {
        &self.status
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Takes an input; the actions are to be done in their order.
    pub(crate) fn step(&mut self, now: Timestamp, input: Input) -> Vec<Action> {
        let before = self.status.clone();
        let mut actions = self.take(now, input);
        actions.extend(self.pursue(now));
        if self.status != before {
            actions.insert(0, Action::Report);
        }
        actions
    }

    fn take(&mut self, now: Timestamp, input: Input) -> Vec<Action> {
        match (input, self.phase) {
            (Input::Begin(reality), Phase::New) => return self.begin(now, reality),
            (Input::Desired(desired), _) => self.desired = self.desired.max(desired),
            (Input::Offline(offline), _) => self.offline = offline,
            (Input::Acknowledged, Phase::Ended) if !self.acknowledged => {
                self.acknowledged = true;
                return vec![Action::Delete];
            }
            (Input::Dropped, _) => {
                self.dropped = true;
                self.desired = DesiredState::Remove;
            }
            (Input::Progress(message), Phase::Fetching) => self.status.message = message,
            (Input::Fetched(Ok(())), Phase::Fetching) => {
                self.phase = Phase::Creating;
                return vec![Action::Create { leftovers: false }];
            }
            (Input::Created(Ok(check)), Phase::Creating) => {
                self.phase = Phase::Created;
                self.check = check;
                self.rise(now, TaskState::Ready, "ready to start");
            }
            (Input::Fetched(Err(error)), Phase::Fetching) | (Input::Created(Err(error)), Phase::Creating) => {
                let started_before = self.status.state >= TaskState::Starting;
                let state = if started_before { TaskState::Failed } else { TaskState::Rejected };
                self.fail(now, state, None, error);
            }
            (Input::Started(Ok(pid)), Phase::Starting) => return self.started(now, pid),
            (Input::Started(Err(error)), Phase::Starting) => {
                self.fail(now, TaskState::Failed, None, error);
                // It may run all the same: the answer can be lost after the start.
                return vec![Action::Kill];
            }
            (Input::Exited(exit), Phase::Running) => {
                self.finish_by_exit(now, exit);
                return self.end_checks(true);
            }
            (Input::Checked(result), Phase::Running) => return self.checked(now, result),
            (Input::Timer, Phase::Running) => return self.check_again(),
            (Input::Exited(exit), Phase::Leaving | Phase::Stopping) => return self.stopped(now, exit),
            (Input::Timer, Phase::Leaving) => return self.ask_to_stop(),
            (Input::Timer, Phase::Stopping) => return vec![Action::Timer(KILL_AGAIN), Action::Kill],
            (Input::Timer, Phase::Waiting { .. }) => {
                self.phase = Phase::Creating;
                self.status.health = None;
                self.status.local_restarts = self.status.local_restarts.saturating_add(1);
                self.history.record(&self.restart, now);
                return vec![Action::Create { leftovers: true }];
            }
            // An answer to something that was given up meanwhile.
            _ => {}
        }
        Vec::new()
    }

    /// Goes on with what there is.
    fn begin(&mut self, now: Timestamp, reality: Reality) -> Vec<Action> {
        let ended = self.status.state.is_terminal();
        match reality {
            Reality::Running { pid } if !self.acknowledged => self.started(now, pid),
            // The managers have replaced it: what runs is a stray.
            Reality::Running { .. } => {
                self.phase = Phase::Stopping;
                vec![Action::Watch, Action::Timer(KILL_AGAIN), Action::Kill]
            }
            _ if ended => {
                self.phase = Phase::Ended;
                if self.acknowledged { vec![Action::Delete] } else { Vec::new() }
            }
            Reality::Ended { exit } if self.desired > DesiredState::Running => {
                self.finish(now, TaskState::Shutdown, Some(exit), String::new());
                Vec::new()
            }
            Reality::Ended { exit } => {
                self.finish_by_exit(now, exit);
                Vec::new()
            }
            // Also one whose start was under way: starting it again does no harm if it has been started.
            Reality::Created
                if self.status.state < TaskState::Starting || self.desired <= DesiredState::Running =>
            {
                self.phase = Phase::Created;
                self.rise(now, TaskState::Ready, "ready to start");
                Vec::new()
            }
            // Starting it failed, and nobody was there to hear why.
            Reality::Broken { why } if self.status.state >= TaskState::Starting && !why.is_empty() => {
                self.fail(now, TaskState::Failed, None, why);
                Vec::new()
            }
            // It was started once, and is not there: nobody saw the end.
            _ if self.status.state >= TaskState::Starting => {
                self.fail(now, TaskState::Failed, Some(Exit::Unknown), Exit::Unknown.to_string());
                Vec::new()
            }
            Reality::Broken { .. } | Reality::Created => self.fetch(now, vec![Action::Delete]),
            Reality::Absent => self.fetch(now, Vec::new()),
        }
    }

    fn fetch(&mut self, now: Timestamp, mut actions: Vec<Action>) -> Vec<Action> {
        if self.desired <= DesiredState::Running {
            self.phase = Phase::Fetching;
            self.rise(now, TaskState::Preparing, "preparing");
            actions.push(Action::Fetch);
        } else {
            self.finish(now, TaskState::Shutdown, None, String::new());
        }
        actions
    }

    fn started(&mut self, now: Timestamp, pid: u32) -> Vec<Action> {
        self.phase = Phase::Running;
        let state = self.state_when_started();
        let known =
            self.status.state == state && self.status.pid == pid && (pid != 0 || self.check.is_none());
        if !known {
            self.crashes.started(now);
            // Also where the state was terminal: the end was never reported, and it runs again.
            let local_restarts = self.status.local_restarts;
            self.status = TaskStatus { state, since: now, pid, local_restarts, ..TaskStatus::default() };
            self.status.message = match (local_restarts, state) {
                (0, TaskState::Starting) => "started, its health check has not succeeded yet".to_owned(),
                (0, _) => "started".to_owned(),
                (count, _) => format!("started again on this node without a manager ({count})"),
            };
        }
        let mut actions = vec![Action::Watch];
        actions.extend(self.begin_checks(now));
        actions
    }

    fn stopped(&mut self, now: Timestamp, exit: Exit) -> Vec<Action> {
        if self.status.state.is_terminal() {
            self.phase = Phase::Ended;
            return vec![Action::CancelTimer, Action::Delete];
        }
        if self.is_unhealthy() {
            self.finish_by_exit(now, exit);
        } else {
            self.finish(now, TaskState::Shutdown, Some(exit), String::new());
        }
        vec![Action::CancelTimer]
    }

    /// What follows from the wishes, whatever the input was.
    fn pursue(&mut self, now: Timestamp) -> Vec<Action> {
        let stop = self.desired > DesiredState::Running;
        match self.phase {
            Phase::Fetching if stop => {
                self.finish(now, TaskState::Shutdown, None, String::new());
                let mut actions = vec![Action::CancelFetch];
                actions.extend(self.leave());
                actions
            }
            Phase::Created if stop => {
                self.finish(now, TaskState::Shutdown, None, String::new());
                let mut actions = vec![Action::Delete];
                actions.extend(self.leave());
                actions
            }
            Phase::Created if self.desired == DesiredState::Running => {
                self.phase = Phase::Starting;
                self.rise(now, TaskState::Starting, "starting");
                vec![Action::Start]
            }
            Phase::Running if stop || self.is_unhealthy() => self.begin_stop(stop),
            Phase::Waiting { exit } if stop => {
                self.finish(now, TaskState::Shutdown, Some(exit), String::new());
                let mut actions = vec![Action::CancelTimer];
                actions.extend(self.leave());
                actions
            }
            Phase::Waiting { exit } if !self.offline => {
                self.finish_by_exit(now, exit);
                vec![Action::CancelTimer]
            }
            Phase::Ended if self.dropped => self.leave(),
            Phase::Ended if self.offline && !stop => self.consider_restart(now),
            _ => Vec::new(),
        }
    }

    fn begin_stop(&mut self, wanted: bool) -> Vec<Action> {
        let mut actions = self.end_checks(false);
        // What does not serve is sent nothing, so there is nothing to wait for.
        let serves = wanted && self.status.state == TaskState::Running && !self.is_unhealthy();
        if serves && !self.pre_stop_delay.is_zero() {
            self.phase = Phase::Leaving;
            self.status.message =
                format!("leaves the routing, is asked to stop after {}s", self.pre_stop_delay.as_secs_f64());
            actions.push(Action::Timer(self.pre_stop_delay));
        } else {
            actions.extend(self.ask_to_stop());
        }
        actions
    }

    fn ask_to_stop(&mut self) -> Vec<Action> {
        self.phase = Phase::Stopping;
        self.status.message = if self.is_unhealthy() { "unhealthy, stopping" } else { "stopping" }.to_owned();
        if self.stop_grace.is_zero() {
            vec![Action::Timer(KILL_AGAIN), Action::Kill]
        } else {
            vec![Action::Timer(self.stop_grace), Action::Signal]
        }
    }

    /// The last actions of a task that was dropped.
    fn leave(&mut self) -> Vec<Action> {
        if !self.dropped {
            return Vec::new();
        }
        self.phase = Phase::Gone;
        vec![Action::Delete, Action::Gone]
    }

    fn consider_restart(&mut self, now: Timestamp) -> Vec<Action> {
        let ran = matches!(self.status.state, TaskState::Complete | TaskState::Failed);
        if self.acknowledged || !ran {
            return Vec::new();
        }
        let exit = self.status.exit.unwrap_or(Exit::Unknown);
        let ended = self.status.since;
        let mut crashes = self.crashes;
        let floor = crashes.ended(ended);
        let Some(delay) = self.history.next_start(&self.restart, self.status.state, ended, floor, now) else {
            return Vec::new();
        };
        self.crashes = crashes;
        self.phase = Phase::Waiting { exit };
        let message = format!("starts again on this node, no manager can be reached: {exit}");
        // The end was never reported, so for the managers the task has not gone back.
        let local_restarts = self.status.local_restarts;
        // Kept, because managers that return in time are told of that end.
        let health = self.status.health.take();
        self.status = TaskStatus {
            state: TaskState::Running,
            since: now,
            message,
            local_restarts,
            health,
            ..TaskStatus::default()
        };
        vec![Action::Timer(delay)]
    }

    fn rise(&mut self, now: Timestamp, state: TaskState, message: &str) {
        if state > self.status.state {
            self.status.state = state;
            self.status.since = now;
        }
        message.clone_into(&mut self.status.message);
    }

    /// The end of what was being stopped is not a failure, however it came.
    fn fail(&mut self, now: Timestamp, state: TaskState, exit: Option<Exit>, error: String) {
        if self.desired > DesiredState::Running {
            self.finish(now, TaskState::Shutdown, exit, String::new());
        } else {
            self.finish(now, state, exit, error);
        }
    }

    fn finish_by_exit(&mut self, now: Timestamp, exit: Exit) {
        if let Some(why) = why_unhealthy(self.status.health.as_ref()) {
            self.finish(now, TaskState::Failed, Some(exit), why);
            return;
        }
        match exit {
            Exit::Code(0) => self.finish(now, TaskState::Complete, Some(exit), String::new()),
            _ => self.finish(now, TaskState::Failed, Some(exit), exit.to_string()),
        }
    }

    fn finish(&mut self, now: Timestamp, state: TaskState, exit: Option<Exit>, error: String) {
        self.phase = Phase::Ended;
        let message = match state {
            TaskState::Complete => "finished",
            TaskState::Shutdown => "stopped",
            TaskState::Rejected => "could not be prepared",
            _ => "failed",
        };
        self.status.state = state;
        self.status.since = now;
        self.status.exit = exit;
        self.status.error = error;
        self.status.pid = 0;
        message.clone_into(&mut self.status.message);
    }
}

#[cfg(test)]
mod tests;
