//! The ground under simulated managers: openraft's deterministic runtime, with tasks that belong to a [`Life`].

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::AsyncRuntime;
use openraft_rt_sim::{
    Elapsed, SimInstant, SimJoinError, SimJoinHandle, SimRuntime, SimSleep, SimTimeout, SimWatch,
};

use super::life::{Life, Member};
use crate::raft::Platform;

/// Virtual time, one thread, and a disk in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Simulated;

impl Platform for Simulated {
    type Runtime = Clockwork;

    /// Done at one moment, after the time that the disk takes.
    fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        Box::pin(async {
            if let Some(life) = Life::current() {
                Clockwork::sleep(life.disk.next()).await;
            }
            Ok(work())
        })
    }
}

/// openraft's deterministic runtime, whose tasks belong to the life of the task that spawned them.
#[derive(Debug)]
pub(super) struct Clockwork(SimRuntime);

impl Clockwork {
    pub(super) fn with_seed(seed: u64) -> Self {
        Self(SimRuntime::with_seed(seed))
    }
}

/// Time since the simulation began.
pub(super) fn now() -> Duration {
    SimInstant::try_now().map(SimInstant::elapsed_since_start).unwrap_or_default()
}

thread_local! {
    static DEADLINES: Cell<u64> = const { Cell::new(0) };
}

/// How often something slept until a deadline, as the clocks of Raft do.
pub(super) fn deadlines() -> u64 {
    DEADLINES.get()
}

pub(super) async fn sleep(duration: Duration) {
    Clockwork::sleep(duration).await;
}

/// Runs a task.
pub(super) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> SimJoinHandle<T> {
    Clockwork::spawn(task)
}

impl AsyncRuntime for Clockwork {
    type JoinError = SimJoinError;
    type JoinHandle<T: Send + 'static> = SimJoinHandle<T>;
    type Sleep = SimSleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = SimTimeout<T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        SimRuntime::spawn(Member::new(future))
    }

    fn sleep(duration: Duration) -> SimSleep {
        SimRuntime::sleep(duration)
    }

    fn sleep_until(deadline: SimInstant) -> SimSleep {
        DEADLINES.set(DEADLINES.get() + 1);
        SimRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> SimTimeout<F> {
        SimRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: SimInstant, future: F) -> SimTimeout<F> {
        SimRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &SimJoinError) -> bool {
        SimRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = SimWatch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        Self(SimRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}
