//! What the adapters stand on: an asynchronous runtime, and threads that may block. The simulation has its own.

use std::fmt::Debug;
use std::io;

use futures::future::BoxFuture;
use openraft::AsyncRuntime;

/// The ground under Raft. The same adapters run in production ([`Host`]) and in the simulation.
///
/// The traits beside `Send` and `Sync` are what openraft asks of its type parameters.
pub trait Platform: Debug + Clone + Copy + Default + Ord + Send + Sync + 'static {
    /// Tasks, clocks, timers and channels.
    type Runtime: AsyncRuntime;

    /// Does work that waits for the disk, where it delays nothing else.
    ///
    /// # Errors
    /// When the work panicked or the runtime ends.
    fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>>;
}

/// Tokio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host;

#[allow(deprecated, reason = "the same type under its other name would be one more dependency")]
type TokioRuntime = openraft::impls::TokioRuntime;

impl Platform for Host {
    type Runtime = TokioRuntime;

    fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        Box::pin(async { tokio::task::spawn_blocking(work).await.map_err(io::Error::other) })
    }
}

/// A moment on the clock of a platform.
pub(crate) type Moment<P> = <<P as Platform>::Runtime as AsyncRuntime>::Instant;

/// Something that turns true once.
pub(crate) type Flag<P> = openraft::type_config::alias::WatchReceiverOf<super::types::TypeConfig<P>, bool>;

/// What turns a [`Flag`] true; while it exists, waiting for the flag does not end with an error.
pub(crate) type FlagSetter<P> =
    openraft::type_config::alias::WatchSenderOf<super::types::TypeConfig<P>, bool>;
