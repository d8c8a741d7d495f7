//! All clients of a run, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::client::{Client, Seen};
use super::{Random, registers, services};
use crate::api::Api;
use crate::lab::Lab;
use crate::process;

/// One operation of a client.
type Step = fn(&mut Client);

/// Clients that use registers, and clients that use services.
const CLIENTS: [(u32, Step, Duration); 2] = [
    (4, registers::step, Duration::from_millis(25)),
    // Each of their writes makes tasks start or stop: there must be time for it.
    (2, services::step, Duration::from_millis(400)),
];
/// Who reads everything at the end.
const OBSERVER: u32 = 1_000;
/// How long the last reads may take: everything is whole by then.
const OBSERVE: Duration = Duration::from_secs(20);

/// The clients at work.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Client>>,
}

fn managers(lab: &Lab) -> Result<Vec<Api>> {
    let names = lab.names().into_iter().filter(|name| name.is_manager());
    names.map(|name| lab.api(name).cloned()).collect()
}

impl Clients {
    pub(super) fn start(lab: &Lab, random: &mut Random) -> Result<Self> {
        let (managers, stop, epoch) = (managers(lab)?, Arc::new(AtomicBool::new(false)), Instant::now());
        let mut threads = Vec::new();
        for (count, step, pause) in CLIENTS {
            for _ in 0..count {
                let number = u32::try_from(threads.len()).context("number of clients")?;
                let mut client = Client::new(number, &managers, epoch, random.split());
                let stop = Arc::clone(&stop);
                threads.push(thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        step(&mut client);
                        thread::sleep(pause);
                    }
                    client
                }));
            }
        }
        Ok(Self { stop, threads })
    }

    /// Ends them; gives what they saw, and the shortest of their longest times without an acknowledged write: in that
    /// time at least one of them got nothing done.
    pub(super) fn stop(self) -> Result<(Seen, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::new();
        let mut shortest: Option<Duration> = None;
        let clients: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        for client in clients {
            let (seen, gap) = client.map_err(|_| anyhow!("a client panicked"))?.finish();
            all.merge(seen);
            shortest = Some(shortest.map_or(gap, |shortest| shortest.min(gap)));
        }
        Ok((all, shortest.unwrap_or_default()))
    }
}

/// Reads everything once more, after all clients have ended.
pub(super) fn observe(lab: &Lab, history: &mut Seen) -> Result<()> {
    // A clock that begins after all others: only the order of moments counts.
    let end = history.operations().iter().map(|operation| operation.completed_at).max().unwrap_or_default();
    let epoch =
        Instant::now().checked_sub(Duration::from_nanos(end + 1)).context("the clock began too late")?;
    let mut observer = Client::new(OBSERVER, &managers(lab)?, epoch, Random::new(0));
    for node in registers::NODES {
        process::wait(OBSERVE, || registers::read(&mut observer, node).ok())
            .with_context(|| format!("read the labels of {node} at the end"))?;
    }
    process::wait(OBSERVE, || services::read(&mut observer).ok()).context("read the services at the end")?;
    history.merge(observer.finish().0);
    Ok(())
}

/// One operation per line, in the order of their beginnings.
pub(super) fn as_text(history: &Seen) -> String {
    let mut operations: Vec<_> = history.operations().iter().collect();
    operations.sort_by_key(|operation| operation.invoked_at);
    operations.into_iter().map(|operation| format!("{operation}\n")).collect()
}
