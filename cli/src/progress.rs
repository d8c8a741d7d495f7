//! Waiting until a service has converged, as the managers' watch tells it.
//!
//! On a terminal a line for each slot, or one for all when there are many. In a pipe one line at the end; what keeps the
//! service from converging is told when it has lasted a while, and what went wrong is told once.

mod goal;
mod live;
mod plain;
mod summary;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

pub(crate) use goal::Goal;

use coracle_model::rollout::UpdateState;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use crate::cmd::service::WaitFlags;
use crate::context::Context;
use crate::error::{Failure, say};
use crate::exit_code::ExitCode;
use goal::End;

/// Pause before the watch is opened again, when the manager that served it has gone.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long the watch may stay away.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How often what is shown is brought up to date.
const TICK: Duration = Duration::from_millis(250);

fn state(update: &v1::UpdateProgress) -> Option<UpdateState> {
    v1::UpdateState::try_from(update.state).ok()?.try_into().ok()
}

fn is_rollback(update: &v1::UpdateProgress) -> bool {
    state(update).is_some_and(UpdateState::is_rollback)
}

/// Shows progress somewhere.
trait Renderer {
    /// The service is as told now.
    fn show(&mut self, progress: &v1::ServiceProgress);
    /// Time has passed.
    fn tick(&mut self);
    /// Nothing follows; `converged` tells whether it got there.
    fn finish(&mut self, converged: bool);
}

/// Waits until the service has converged, unless the flags say not to.
///
/// # Errors
/// When it is removed meanwhile, does not converge in time, or cannot be watched; when its update is paused or rolled
/// back, its job fails, or tasks fail and are not started again; when the user interrupts.
pub(crate) async fn converge(
    context: &Context,
    id: &str,
    name: &str,
    flags: &WaitFlags,
    goal: Goal,
) -> anyhow::Result<()> {
    if flags.detach {
        return Ok(());
    }
    if let End::NextRun { differs } = goal.end {
        if differs && !flags.quiet {
            say(&format!("{name}: takes effect with the next run"));
        }
        return Ok(());
    }
    let mut renderer: Box<dyn Renderer> = match (flags.quiet, io::stderr().is_terminal()) {
        (true, _) => Box::new(plain::Silent),
        (false, true) => Box::new(live::Live::new(name)),
        (false, false) => Box::new(plain::Plain::new(name)),
    };
    let mut last = None;
    let outcome = tokio::select! {
        outcome = watch(context, id, name, goal, renderer.as_mut(), &mut last) => {
            outcome.and_then(|()| last.as_ref().and_then(|last| failure(name, last, goal)).map_or(Ok(()), Err))
        }
        _ = tokio::signal::ctrl_c() => Err(interrupted(name)),
        () = elapsed(flags.timeout) => Err(too_late(name, flags.timeout.unwrap_or_default(), last.as_ref())),
    };
    renderer.finish(outcome.is_ok());
    outcome
}

async fn elapsed(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => sleep(timeout).await,
        None => std::future::pending().await,
    }
}

async fn watch(
    context: &Context,
    id: &str,
    name: &str,
    goal: Goal,
    renderer: &mut dyn Renderer,
    last: &mut Option<v1::ServiceProgress>,
) -> anyhow::Result<()> {
    let mut lost_at: Option<Instant> = None;
    loop {
        match follow(context, id, name, goal, renderer, (last, &mut lost_at)).await {
            Ok(()) => return Ok(()),
            Err(error) if may_return(&error) => {
                let since = *lost_at.get_or_insert_with(Instant::now);
                if since.elapsed() > RECONNECT_LIMIT {
                    return Err(error);
                }
                sleep(RECONNECT_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Follows one stream until the service has converged or the stream ends.
async fn follow(
    context: &Context,
    id: &str,
    name: &str,
    goal: Goal,
    renderer: &mut dyn Renderer,
    (last, lost_at): (&mut Option<v1::ServiceProgress>, &mut Option<Instant>),
) -> anyhow::Result<()> {
    let request = v1::WatchServiceRequest { service: id.to_owned() };
    let answer = context.services().watch(request).await.map_err(|status| context.explain(&status))?;
    let mut stream = answer.into_inner();
    let (mut converged_at, mut settling) = (None::<Instant>, goal.settling);
    loop {
        let progress = tokio::select! {
            progress = next(context, &mut stream) => progress?,
            () = sleep(TICK) => {
                renderer.tick();
                if converged_at.is_some_and(|at| at.elapsed() >= settling) {
                    return Ok(());
                }
                continue;
            }
        };
        *lost_at = None;
        if progress.service.is_none() {
            return Err(
                Failure::new(ExitCode::NotFound, format!("service {name:?} was removed meanwhile")).into()
            );
        }
        renderer.show(&progress);
        let nothing_runs = progress.counts.as_ref().is_none_or(|counts| counts.desired == 0);
        let is_there = progress.converged && !(goal.end == End::Rebalance && is_moving(&progress));
        converged_at = is_there.then(|| converged_at.unwrap_or_else(Instant::now));
        // There is nothing to watch where a task is not started again.
        settling = if summary::failed_for_good(&progress) > 0 { goal::SETTLING } else { goal.settling };
        let settled = converged_at.is_some_and(|at| at.elapsed() >= settling);
        let done = (is_there && (nothing_runs || settled)) || is_paused(&progress);
        *last = Some(progress);
        if done {
            return Ok(());
        }
    }
}

/// The next message. Cancel-safe: a message that is not returned is not taken either.
async fn next(
    context: &Context,
    stream: &mut Streaming<v1::ServiceProgress>,
) -> Result<v1::ServiceProgress, ApiError> {
    let message = stream.message().await.map_err(|status| context.explain(&status))?;
    message.ok_or_else(|| ApiError::new(Reason::Unavailable, "the manager has ended the watch"))
}

/// Whether opening the watch again may help: the leader changed, or the daemon restarts.
fn may_return(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ApiError>()
        .is_some_and(|error| error.reason.may_be_repeated() || error.reason == Reason::OutcomeUnknown)
}

fn update_of(progress: &v1::ServiceProgress) -> Option<&v1::UpdateProgress> {
    progress.service.as_ref()?.update.as_ref()
}

fn rebalance_of(progress: &v1::ServiceProgress) -> Option<&v1::RebalanceProgress> {
    progress.service.as_ref()?.rebalance.as_ref()
}

fn is_moving(progress: &v1::ServiceProgress) -> bool {
    rebalance_of(progress).is_some_and(|rebalance| rebalance.state == i32::from(v1::RebalanceState::Moving))
}

fn is_paused(progress: &v1::ServiceProgress) -> bool {
    update_of(progress).and_then(state).is_some_and(UpdateState::is_paused)
}

/// Why the end is not the one that was wanted.
fn failure(name: &str, last: &v1::ServiceProgress, goal: Goal) -> Option<anyhow::Error> {
    let failed = |what: &str, message: &str, hint: String| {
        let because = if message.is_empty() { String::new() } else { format!(": {message}") };
        let text = format!("{what}{because}");
        Some(Failure::new(ExitCode::UpdateFailed, text).with_hint(hint).into())
    };
    let counts = last.counts.unwrap_or_default();
    let job = last.service.as_ref().and_then(|service| service.job.as_ref());
    if job.is_some_and(|job| job.ended_at.is_some()) && counts.completed < counts.total {
        let errors = summary::errors(last).join("; ");
        let left = counts.total - counts.completed;
        let what = format!("job {name:?} failed: {left} of {} tasks did not complete", counts.total);
        return failed(
            &what,
            &errors,
            format!(
                "see `coracle service ps {name}`; run it again with `coracle service update --force {name}`"
            ),
        );
    }
    if goal.end == End::Rebalance {
        let rebalance = rebalance_of(last)?;
        let stopped = rebalance.state == i32::from(v1::RebalanceState::Stopped);
        let what = format!("the rebalance of service {name:?} was given up");
        let hint = format!("see `coracle service ps {name}`; `coracle service rebalance {name}` tries again");
        return if stopped { failed(&what, &rebalance.message, hint) } else { None };
    }
    let lost = summary::failed_for_good(last);
    if lost > 0 {
        let what = format!(
            "{lost} of {} tasks of service {name:?} failed and are not started again",
            counts.desired
        );
        let reasons = summary::errors(last).join("; ");
        let hint = format!(
            "see `coracle service ps {name}`; start them again with `coracle service update --force {name}`"
        );
        return failed(&what, &reasons, hint);
    }
    let update = update_of(last)?;
    let again = format!("see `coracle service ps {name}`; any `coracle service update {name}` goes on");
    match (state(update)?, goal.end) {
        (UpdateState::Paused, _) => {
            failed(&format!("the update of service {name:?} is paused"), &update.message, again)
        }
        (UpdateState::RollbackPaused, _) => {
            failed(&format!("the rollback of service {name:?} is paused"), &update.message, again)
        }
        (UpdateState::RollbackCompleted, End::Specification { rollback_before: false }) => failed(
            &format!("the update of service {name:?} was rolled back"),
            &update.message,
            format!("the former specification is in force again: see `coracle service ps {name}`"),
        ),
        _ => None,
    }
}

fn interrupted(name: &str) -> anyhow::Error {
    Failure::new(ExitCode::Interrupted, format!("interrupted: service {name:?} goes on converging"))
        .with_hint(format!("see how far it is with `coracle service ps {name}`"))
        .into()
}

fn too_late(name: &str, timeout: Duration, last: Option<&v1::ServiceProgress>) -> anyhow::Error {
    let waited = crate::opt::duration::render(coracle_proto::convert::nanos(timeout));
    let state = last.map_or_else(|| "nothing is known of its tasks".to_owned(), summary::with_reasons);
    Failure::new(
        ExitCode::NotConverged,
        format!("service {name:?} has not converged within {waited}: {state}"),
    )
    .with_hint(format!("it goes on converging: see `coracle service ps {name}`"))
    .into()
}
