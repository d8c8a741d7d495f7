//! Ending early in order: an interrupt or a request to end makes waiting fail, and everything is cleaned up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Set when the program was asked to end.
static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM make [`check`] fail instead of ending the program.
///
/// # Errors
/// When a signal cannot be caught.
pub(super) fn catch(runtime: &Runtime) -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut asked = {
            let _inside = runtime.enter();
            signal(kind).context("catch signals")?
        };
        runtime.spawn(async move {
            asked.recv().await;
            ASKED.store(true, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// Fails once the program was asked to end.
///
/// # Errors
/// When it was.
pub(super) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, unless the program is asked to end.
///
/// # Errors
/// When it was asked.
pub(super) fn sleep(length: Duration) -> Result<()> {
    let end = std::time::Instant::now() + length;
    while std::time::Instant::now() < end {
        check()?;
        std::thread::sleep(Duration::from_millis(50).min(length));
    }
    check()
}
