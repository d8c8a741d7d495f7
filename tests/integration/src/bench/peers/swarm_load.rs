//! Writes to a swarm: configs are made and removed, the smallest objects that it replicates.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::engine::Connection;
use crate::bench::interrupt;
use crate::bench::load::{self, CLIENTS, LENGTH, Written};
use crate::bench::report::Report;
use crate::process::Process;

/// How long to try to write after a fault.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);

/// Writes at one engine with different numbers of clients.
///
/// # Errors
/// When a write fails.
pub(super) fn measure(
    socket: &Path,
    daemons: &[Process],
    repetitions: u32,
    report: &mut Report,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for _ in 0..repetitions {
        for (clients, target) in CLIENTS {
            interrupt::check()?;
            let (before, start) = (load::ticks(daemons), Instant::now());
            let handles = (0..clients).map(|_| runtime.spawn(one(socket.to_owned())));
            // Collected first: an iterator alone would start one after the other.
            let handles: Vec<_> = handles.collect();
            let mut latencies = Vec::new();
            for handle in handles {
                latencies.extend(runtime.block_on(handle).context("a client panicked")??);
            }
            let (time, ticks) = (start.elapsed(), load::ticks(daemons) - before);
            load::add(report, clients, target, Written { time, ticks, latencies });
        }
    }
    Ok(())
}

/// Makes and removes a config again and again, over a connection of its own; gives milliseconds.
async fn one(socket: PathBuf) -> Result<Vec<f64>> {
    let mut connection = Connection::open(&socket).await?;
    let end = Instant::now() + LENGTH;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        let made = connection.json(Method::POST, "/configs/create", Some(&config())).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
        let path = format!("/configs/{}", made["ID"].as_str().context("a config without an identifier")?);
        let start = Instant::now();
        connection.json(Method::DELETE, &path, None).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// A config of 256 bytes with a name of its own.
fn config() -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // 342 digits of base 64 and two marks of the end are 256 bytes (RFC 4648, section 4).
    json!({ "Name": format!("write-{number}"), "Labels": {}, "Data": format!("{}==", "A".repeat(342)) })
}

/// Begins a write at every socket again and again, whether or not earlier ones still wait, until one is acknowledged.
///
/// # Errors
/// When none is within [`DEADLINE`].
pub(super) async fn first_write(sockets: &[PathBuf], every: Duration) -> Result<()> {
    let (sender, mut acknowledged) = mpsc::channel(1);
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        interrupt::check()?;
        for socket in sockets {
            let (socket, sender) = (socket.clone(), sender.clone());
            tokio::spawn(async move {
                if tokio::time::timeout(TRY, write(&socket)).await.is_ok_and(|written| written.is_ok()) {
                    // Nobody listens any more when another was first.
                    let _ = sender.try_send(());
                }
            });
        }
        if tokio::time::timeout(every, acknowledged.recv()).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("no write was acknowledged within {DEADLINE:?}")
}

async fn write(socket: &Path) -> Result<()> {
    Connection::open(socket).await?.json(Method::POST, "/configs/create", Some(&config())).await.map(drop)
}
