//! Starting a daemon that is to be killed at a point, seeing that it was, and starting it again.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use coracle_integration::lab::Lab;
use coracle_integration::name::Name;
use coracle_integration::process;

use crate::table::Point;

/// How long the work may go on before the point must have been reached.
pub(crate) const REACHED: Duration = Duration::from_secs(30);
/// Before work that failed is tried again.
const PAUSE: Duration = Duration::from_millis(20);
/// All daemons of these tests cut their logs often.
const SMALL_LOG: (&str, &str) = ("CORACLE_SMALL_LOG", "true");

/// Where the killed process leaves the name of the point.
fn note(lab: &Lab, name: Name) -> PathBuf {
    lab.folder().join(format!("{name}-crashed"))
}

fn noted(lab: &Lab, name: Name) -> String {
    fs::read_to_string(note(lab, name)).unwrap_or_default()
}

/// Adds a host whose daemon is not started.
pub(crate) fn add_host(lab: &mut Lab, name: Name) -> Result<()> {
    lab.add_host(name)?;
    lab.node(name).set_environment(&[SMALL_LOG]);
    Ok(())
}

/// Starts the daemon so that it, or what it starts, is killed at the point. It may be killed before it answers.
pub(crate) fn start_armed(lab: &mut Lab, name: Name, point: Point) -> Result<()> {
    let note = note(lab, name);
    if note.exists() {
        fs::remove_file(&note)?;
    }
    let wish = format!("{}:{}", point.name, point.count);
    let log = note.display().to_string();
    let node = lab.node(name);
    node.set_environment(&[SMALL_LOG, ("CORACLE_CRASH_AT", &wish), ("CORACLE_CRASH_LOG", &log)]);
    let started = node.start_daemon();
    node.set_environment(&[SMALL_LOG]);
    if started.is_err() && is_reached(lab, name) {
        return Ok(());
    }
    started
}

/// Whether some process has been killed at the point.
pub(crate) fn is_reached(lab: &Lab, name: Name) -> bool {
    !noted(lab, name).is_empty()
}

/// Whether the daemon runs.
pub(crate) fn runs(lab: &Lab, name: Name) -> bool {
    lab.get(name).is_ok_and(|node| node.daemon().is_some())
}

/// Waits until the daemon answers, unless it is killed at its point before.
pub(crate) fn wait_answers_or_dies(lab: &Lab, name: Name) -> Result<()> {
    let answered = process::wait(REACHED, || {
        let answers = || lab.api(name).is_ok_and(|api| api.info().is_ok());
        (!runs(lab, name) || answers()).then_some(())
    });
    answered.with_context(|| format!("{name} neither answers nor ends"))
}

/// Does a round of work again and again until the daemon is dead, which must be because of the point.
///
/// Rounds fail before there is a leader, and when the daemon dies in the middle of one.
pub(crate) fn work_until_killed(
    lab: &Lab,
    name: Name,
    point: Point,
    mut round: impl FnMut(&Lab) -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + REACHED;
    let mut last = String::new();
    while runs(lab, name) {
        if Instant::now() > end {
            bail!("{}: was never reached ({last})\n{}", point.name, lab.log_tails(12));
        }
        if let Err(error) = round(lab) {
            last = format!("{error:#}");
            std::thread::sleep(PAUSE);
        }
    }
    was_killed_there(lab, name, point)
}

/// Makes sure that the process ended because of the point.
pub(crate) fn was_killed_there(lab: &Lab, name: Name, point: Point) -> Result<()> {
    let noted = noted(lab, name);
    if noted.lines().next() != Some(point.name) {
        bail!(
            "{}: the process ended for another reason (noted: {noted:?})\n{}",
            point.name,
            lab.log_tails(30)
        );
    }
    Ok(())
}

/// Starts the daemon again as usual, and waits until it has taken up what it was.
pub(crate) fn recover(lab: &mut Lab, name: Name) -> Result<()> {
    lab.start_daemon(name)?;
    lab.until("the daemon is ready", |lab| {
        let log = lab.get(name)?.log();
        Ok(log.rsplit("lab: daemon starts").next().is_some_and(|life| life.contains("daemon is ready")))
    })
}
