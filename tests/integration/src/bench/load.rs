//! Writes per second through the API: services without tasks are made and removed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use coracle_proto::v1;
use coracle_proto::v1::services_client::ServicesClient;
use tonic::transport::{Channel, Endpoint};

use super::interrupt;
use super::report::{Report, quantile};
use super::subject::Subject;
use crate::lab::Lab;
use crate::process::{Process, Stat};

/// Clients at the same time, with the writes per second that are wanted.
pub(super) const CLIENTS: [(usize, f64); 3] = [(1, 1600.0), (8, 4000.0), (64, 12_000.0)];
/// How long each number of clients writes.
pub(super) const LENGTH: Duration = Duration::from_secs(5);
/// Wanted latencies with 64 clients, in milliseconds: half of all, and 99 of 100.
const LATENCY: (f64, f64) = (5.0, 15.0);

/// `daemons` are all that take part in a write.
pub(super) fn measure(lab: &Lab, daemons: &[Process], repetitions: u32, report: &mut Report) -> Result<()> {
    let leader = lab.leader()?;
    let socket = lab.get(leader)?.folders().socket();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for round in 0..repetitions {
        for (clients, target) in CLIENTS {
            interrupt::check()?;
            let (before, start) = (ticks(daemons), Instant::now());
            let latencies = runtime.block_on(all(&socket, clients, round))?;
            let (time, ticks) = (start.elapsed(), ticks(daemons) - before);
            add(report, clients, target, Written { time, ticks, latencies });
        }
    }
    Ok(())
}

/// What some clients did.
#[derive(Debug)]
pub(super) struct Written {
    /// How long it took.
    pub(super) time: Duration,
    /// The processor time of all daemons meanwhile; see [`ticks`].
    pub(super) ticks: u64,
    /// Of each write, in milliseconds.
    pub(super) latencies: Vec<f64>,
}

/// The daemons of all managers.
pub(super) fn managers(subject: &dyn Subject) -> Result<Vec<Process>> {
    let names = subject.names().into_iter().filter(|name| name.is_manager());
    let daemons = names.map(|name| subject.daemons(name)).collect::<Result<Vec<_>>>()?;
    Ok(daemons.into_iter().flatten().collect())
}

/// The processor time of processes so far; a tick is a hundredth of a second.
pub(super) fn ticks(daemons: &[Process]) -> u64 {
    daemons.iter().filter_map(|process| Stat::of(process.pid)).map(|stat| stat.cpu_ticks).sum()
}

/// Adds what some clients did.
pub(super) fn add(report: &mut Report, clients: usize, target: f64, written: Written) {
    let Written { time, ticks, mut latencies } = written;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 writes")]
    let (writes, ticks) = (latencies.len() as f64, ticks as f64);
    latencies.sort_by(f64::total_cmp);
    let wanted = (clients == 64).then_some(LATENCY);
    report.add(&format!("writes, {clients} clients"), "1/s", target, writes / time.as_secs_f64());
    // Tells of the product also where the machine has other things to do.
    let name = format!("processor time of all managers per write, {clients} clients");
    report.add(&name, "ms", None, ticks * 10.0 / writes);
    for (part, name, target) in
        [(0.5, "p50", wanted.map(|both| both.0)), (0.99, "p99", wanted.map(|both| both.1))]
    {
        let name = format!("write latency, {clients} clients, {name}");
        report.add(&name, "ms", target, quantile(&latencies, part));
    }
}

/// Runs all clients; gives the latency of every write in milliseconds.
async fn all(socket: &std::path::Path, clients: usize, round: u32) -> Result<Vec<f64>> {
    let handles = (0..clients).map(|client| {
        let name = format!("load-{round}-{clients}-{client}");
        tokio::spawn(one(socket.to_owned(), name))
    });
    // Collected first: an iterator alone would start one after the other.
    let handles: Vec<_> = handles.collect();
    let mut latencies = Vec::new();
    for handle in handles {
        latencies.extend(handle.await.context("a client panicked")??);
    }
    Ok(latencies)
}

/// Makes and removes a service again and again, over a connection of its own.
async fn one(socket: PathBuf, name: String) -> Result<Vec<f64>> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    let mut services = ServicesClient::new(endpoint.connect().await.context("connect to the leader")?);
    let end = Instant::now() + LENGTH;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        latencies.push(create(&mut services, &name).await?);
        latencies.push(remove(&mut services, &name).await?);
    }
    Ok(latencies)
}

async fn create(services: &mut ServicesClient<Channel>, name: &str) -> Result<f64> {
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage { reference: crate::image::RESPONDER.to_owned(), digest: String::new() }),
        ..v1::ContainerSpec::default()
    };
    let spec = v1::ServiceSpec {
        name: name.to_owned(),
        mode: Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 0 })),
        task: Some(v1::TaskSpec { container: Some(container), ..v1::TaskSpec::default() }),
        ..v1::ServiceSpec::default()
    };
    let start = Instant::now();
    services.create(v1::CreateServiceRequest { spec: Some(spec), idempotency_key: String::new() }).await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

async fn remove(services: &mut ServicesClient<Channel>, name: &str) -> Result<f64> {
    let start = Instant::now();
    let request = v1::RemoveServiceRequest { service: name.to_owned(), idempotency_key: String::new() };
    services.remove(request).await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
