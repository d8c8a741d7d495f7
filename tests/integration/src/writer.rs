//! A client that writes all the time, and remembers exactly what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::api::Api;
use crate::view::View;

/// How long one write may take before the next manager is tried.
const WRITE_DEADLINE: Duration = Duration::from_millis(700);
/// Pause between writes: an object has room for some thousand labels, a test must not fill it.
const PAUSE: Duration = Duration::from_millis(40);

/// A client that writes until it is stopped.
#[derive(Debug)]
pub struct Writer {
    target: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

/// What was acknowledged.
#[derive(Debug, Default, Clone)]
pub struct Written {
    target: String,
    /// Labels that the cluster has promised to keep.
    pub acknowledged: Vec<String>,
    /// The longest time without an acknowledgement.
    pub longest_gap: Duration,
}

impl Writer {
    /// Begins to set labels `write.1`, `write.2`, … of a node, through whichever manager answers.
    #[must_use]
    pub fn start(managers: Vec<Api>, target: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let managers: Vec<Api> = managers.iter().map(Api::holding).collect();
        let thread = {
            let (stop, target) = (Arc::clone(&stop), target.to_owned());
            thread::spawn(move || write(&managers, target, &stop))
        };
        Self { target: target.to_owned(), stop, thread }
    }

    /// The node whose labels are written.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Ends writing and tells what was acknowledged.
    ///
    /// # Errors
    /// When its thread panicked.
    pub fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))
    }
}

fn write(managers: &[Api], target: String, stop: &AtomicBool) -> Written {
    let mut written = Written { target, ..Written::default() };
    let mut last = Instant::now();
    let (mut number, mut at) = (1_u32, 0);
    while !stop.load(Ordering::Relaxed) {
        let key = format!("write.{number}");
        match managers[at].set_label(&written.target, &key, "1", WRITE_DEADLINE) {
            Ok(()) => {
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                written.acknowledged.push(key);
                number += 1;
            }
            Err(_) => at = (at + 1) % managers.len(),
        }
        thread::sleep(PAUSE);
    }
    written
}

impl Written {
    /// Checks that everything that was acknowledged is there.
    ///
    /// # Errors
    /// With what is missing.
    pub fn check(&self, view: &View) -> Result<()> {
        let node = view.node(&self.target).and_then(|item| item.node.as_ref());
        let labels = node.and_then(|node| node.spec.as_ref()).map(|spec| &spec.labels);
        let has = |key: &&String| labels.is_some_and(|labels| labels.contains_key(*key));
        let missing: Vec<&String> = self.acknowledged.iter().filter(|key| !has(key)).collect();
        if !missing.is_empty() {
            bail!("acknowledged writes are lost: {missing:?} of {}", self.acknowledged.len());
        }
        Ok(())
    }
}
