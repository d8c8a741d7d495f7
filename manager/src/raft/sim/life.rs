//! One life of a simulated process: its tasks can end all at once, at any point where they wait, without a last word.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use coracle_disk::testing::Seeded;
use openraft::AsyncRuntime as _;

use super::runtime::Clockwork;

thread_local! {
    /// Whose task is running.
    static CURRENT: RefCell<Option<Arc<Life>>> = const { RefCell::new(None) };
}

/// Locks what no panic can leave half changed.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long operations of one disk take.
#[derive(Debug)]
pub(super) struct DiskSpeed {
    seeded: Mutex<Seeded>,
    /// Longest extra time of one operation, in microseconds.
    slow: AtomicU64,
    /// Shortest time of one operation, in microseconds.
    least: AtomicU64,
}

impl DiskSpeed {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seeded: Mutex::new(Seeded::new(seed)),
            slow: AtomicU64::new(0),
            least: AtomicU64::new(0),
        })
    }

    /// From now on operations take up to this much longer.
    pub(super) fn slow_down(&self, by: Duration) {
        self.slow.store(by.as_micros() as u64, Ordering::Relaxed);
    }

    /// From now on operations take this long at least.
    pub(super) fn take_at_least(&self, time: Duration) {
        self.least.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// How long the next operation takes.
    pub(super) fn next(&self) -> Duration {
        let mut seeded = lock(&self.seeded);
        let slow = self.slow.load(Ordering::Relaxed);
        let least = self.least.load(Ordering::Relaxed);
        Duration::from_micros(least + 100 + seeded.below(900) + seeded.below(slow + 1))
    }
}

/// One life of a simulated process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) disk: Arc<DiskSpeed>,
    ended: AtomicBool,
    panicked: AtomicBool,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, Arc<dyn End>>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tasks").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

/// What can be ended.
trait End: Send + Sync {
    fn end(&self);
}

/// The future of a task, which its life can take away.
struct Slot<T>(Mutex<Option<Pin<Box<dyn Future<Output = T> + Send>>>>);

impl<T> End for Slot<T> {
    fn end(&self) {
        let future = lock(&self.0).take();
        drop(future);
    }
}

impl Life {
    pub(super) fn new(disk: Arc<DiskSpeed>) -> Arc<Self> {
        Arc::new(Self {
            disk,
            ended: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            tasks: Mutex::default(),
        })
    }

    /// The life whose task is running now.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether one of its tasks panicked.
    pub(super) fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Ends all tasks of this life. Not to be called by one of them.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        loop {
            let running = std::mem::take(&mut lock(&self.tasks).running);
            if running.is_empty() {
                return;
            }
            // Dropping a future may wake or spawn others.
            running.into_values().for_each(|task| task.end());
        }
    }

    /// Runs a task of this life.
    pub(super) fn spawn<F>(
        self: &Arc<Self>,
        task: F,
    ) -> <Clockwork as openraft::AsyncRuntime>::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _inside = Inside::enter(Some(self.clone()));
        Clockwork::spawn(task)
    }
}

/// Makes a life the current one until it is dropped.
struct Inside {
    life: Option<Arc<Life>>,
    before: Option<Arc<Life>>,
}

impl Inside {
    fn enter(life: Option<Arc<Life>>) -> Self {
        Self { before: CURRENT.replace(life.clone()), life }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(life) = &self.life
        {
            life.panicked.store(true, Ordering::Relaxed);
        }
        CURRENT.set(self.before.take());
    }
}

/// A task that belongs to the life in which it was spawned.
pub(super) struct Member<T> {
    slot: Arc<Slot<T>>,
    life: Option<Arc<Life>>,
    number: u64,
}

impl<T: Send + 'static> Member<T> {
    /// Makes a future part of the current life.
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        let slot =
            Arc::new(Slot(Mutex::new(Some(Box::pin(future) as Pin<Box<dyn Future<Output = T> + Send>>))));
        let life = Life::current();
        let mut number = 0;
        if let Some(life) = &life {
            if life.is_ended() {
                slot.end();
            } else {
                let mut tasks = lock(&life.tasks);
                tasks.next += 1;
                number = tasks.next;
                tasks.running.insert(number, slot.clone());
            }
        }
        Self { slot, life, number }
    }
}

impl<T> Future for Member<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let _inside = Inside::enter(self.life.clone());
        let mut slot = lock(&self.slot.0);
        // Without its future it waits for ever.
        let Some(future) = slot.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            *slot = None;
            drop(slot);
            if let Some(life) = &self.life {
                lock(&life.tasks).running.remove(&self.number);
            }
        }
        polled
    }
}
