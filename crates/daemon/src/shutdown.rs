//! The end of the process: asked for by a signal or by a failure, and then awaited by everybody.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whether the process is to end. Clones share the answer, and it never changes back.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Not to end yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the process in order: everybody who waits is told.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether the end was asked for.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the end is asked for. Cancel-safe.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// The token that is cancelled at the end, to make children of.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// From now on, SIGTERM and SIGINT ask for the end; a second one ends the process at once, with
    /// status 128 plus the signal's number, as a shell reports it. Call within a runtime.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let shutdown = self.clone();
        // Belongs to nobody's tasks: it has to outlive them all to hear the second signal.
        TaskTracker::new().spawn(async move {
            let (name, _) = signals.next().await;
            tracing::info!(signal = name, "stopping; another signal ends the process at once");
            shutdown.trigger();
            let (name, number) = signals.next().await;
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(128 + number);
        });
        Ok(())
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The next signal's name and number.
    async fn next(&mut self) -> (&'static str, i32) {
        // Both arms are cancel-safe: a signal that is not taken stays pending.
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}
