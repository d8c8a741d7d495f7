//! etcd: puts of many clients at the leader, and how long nobody can write after the leader was killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::etcd_wire::{PutRequest, put, status};
use super::machines::Machines;
use crate::bench::group::{self, Group};
use crate::bench::load::{self, CLIENTS, LENGTH, Written};
use crate::bench::report::Report;
use crate::bench::subject::until;
use crate::bench::system::System;
use crate::bench::{Options, interrupt};
use crate::harness;
use crate::name::Name;
use crate::process::Process;

/// Bytes of a value.
const VALUE: usize = 256;
/// How long one try of a write may take.
const TRY: Duration = Duration::from_millis(200);
/// How long until a write must be acknowledged after a fault.
const DEADLINE: Duration = Duration::from_secs(60);
/// Members of the cluster.
const MEMBERS: u8 = 3;

/// Measures what is wanted of it.
///
/// # Errors
/// When it does not do what is measured.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    report.of(System::Etcd);
    let wanted: Vec<Group> =
        [Group::Load, Group::Failures].into_iter().filter(|group| options.wants(*group)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    report.machine().version("etcd", std::process::Command::new("etcd").arg("--version"));
    let mut etcd = Etcd(Machines::start(&harness::target().join("peer"), Name::all(MEMBERS, 0))?);
    let result = etcd.measure(&wanted, options.repetitions, report);
    let ended = etcd.0.end(result.is_err());
    report.note(
        "etcd: puts of 256 bytes with the default heartbeat of 0.1 s and election timeout of 1 s; clients on the \
         leader's own host over TCP without TLS, ours over the leader's local socket",
    );
    result.and(ended)
}

/// A cluster of members, one on every host.
struct Etcd(Machines);

impl Etcd {
    fn measure(&mut self, groups: &[Group], repetitions: u32, report: &mut Report) -> Result<()> {
        for name in self.0.names() {
            self.spawn(name, "new")?;
        }
        until("a member leads", || Ok(self.leader().is_some()))?;
        for group in groups {
            group::watched(*group, report, |report| match group {
                Group::Load => self.load(repetitions, report),
                _ => self.leader_kills(repetitions, report),
            })?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: Name, state: &str) -> Result<()> {
        let url = |name: Name, port: u16| format!("http://{}:{port}", name.address());
        let members: Vec<String> =
            self.0.names().into_iter().map(|name| format!("{name}={}", url(name, 2380))).collect();
        let (client, peer) = (url(name, 2379), url(name, 2380));
        let data = self.0.folder(name).join("data").display().to_string();
        let arguments = [
            ["--name", &name.to_string()],
            ["--data-dir", &data],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", &members.join(",")],
            ["--initial-cluster-state", state],
            ["--logger", "zap"],
        ];
        let arguments: Vec<String> = arguments.as_flattened().iter().map(|text| (*text).to_owned()).collect();
        self.0.spawn(name, "exec etcd \"$@\"", &arguments)
    }

    /// The member that leads, when there is one.
    fn leader(&self) -> Option<Name> {
        self.0.names().into_iter().find(|name| self.leads(*name).unwrap_or(false))
    }

    fn leads(&self, name: Name) -> Result<bool> {
        if self.0.daemon(name).is_none() {
            return Ok(false);
        }
        self.on_host(name, |runtime| {
            runtime.block_on(async {
                let said = tokio::time::timeout(TRY, status(&channel(name)?)).await??;
                let own = said.header.map_or(0, |header| header.member_id);
                Ok(said.leader != 0 && said.leader == own)
            })
        })
    }

    /// Runs clients on a host: all threads of the runtime are in the network of the thread that makes it.
    fn on_host<T: Send>(&self, name: Name, work: impl FnOnce(&Runtime) -> Result<T> + Send) -> Result<T> {
        self.0.host(name)?.in_network(|| {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            work(&runtime)
        })
    }

    fn load(&self, repetitions: u32, report: &mut Report) -> Result<()> {
        let leader = self.leader().context("no member leads")?;
        for _ in 0..repetitions {
            for (clients, target) in CLIENTS {
                interrupt::check()?;
                let daemons: Vec<Process> =
                    self.0.names().into_iter().filter_map(|name| self.0.daemon(name)).collect();
                let before = load::ticks(&daemons);
                let (time, latencies) = self.on_host(leader, |runtime| {
                    let start = Instant::now();
                    let latencies = runtime.block_on(all(leader, clients))?;
                    Ok((start.elapsed(), latencies))
                })?;
                let ticks = load::ticks(&daemons) - before;
                load::add(report, clients, target, Written { time, ticks, latencies });
            }
        }
        Ok(())
    }

    fn leader_kills(&mut self, repetitions: u32, report: &mut Report) -> Result<()> {
        for _ in 0..repetitions {
            let leader = self.leader().context("no member leads")?;
            let others: Vec<Name> = self.0.names().into_iter().filter(|name| *name != leader).collect();
            let start = Instant::now();
            self.0.kill(leader)?;
            // The hosts are on one segment: either may ask the other.
            self.on_host(others[0], |runtime| runtime.block_on(next_write(&others)))?;
            let seconds = start.elapsed().as_secs_f64();
            report.add("leader killed to next acknowledged write", "s", 0.8, seconds);
            report.add_worst("leader killed to next acknowledged write, worst", "s", 2.5, seconds);
            self.spawn(leader, "existing")?;
            until("all members write", || {
                self.on_host(leader, |runtime| {
                    runtime.block_on(async { tokio::time::timeout(TRY, write(leader, 0)).await? })
                })?;
                Ok(self.leader().is_some())
            })?;
        }
        Ok(())
    }
}

fn channel(name: Name) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}:2379", name.address()))?;
    Ok(endpoint.connect_timeout(TRY).connect_lazy())
}

/// Tries to write at the members in turn until one acknowledges.
async fn next_write(names: &[Name]) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        interrupt::check()?;
        for name in names {
            if tokio::time::timeout(TRY, write(*name, 0)).await.is_ok_and(|written| written.is_ok()) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("no write was acknowledged within {DEADLINE:?}")
}

async fn write(name: Name, number: usize) -> Result<()> {
    put(&channel(name)?, request(number)).await
}

fn request(number: usize) -> PutRequest {
    PutRequest { key: format!("write-{number:08}").into_bytes(), value: vec![b'x'; VALUE] }
}

/// Runs all clients; gives the latency of every put in milliseconds.
async fn all(leader: Name, clients: usize) -> Result<Vec<f64>> {
    // Collected first: an iterator alone would start one after the other.
    let handles: Vec<_> = (0..clients).map(|client| tokio::spawn(one(leader, client))).collect();
    let mut latencies = Vec::new();
    for handle in handles {
        latencies.extend(handle.await.context("a client panicked")??);
    }
    Ok(latencies)
}

/// Puts again and again, over a connection of its own.
async fn one(leader: Name, client: usize) -> Result<Vec<f64>> {
    let channel = channel(leader)?;
    let end = Instant::now() + LENGTH;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        put(&channel, request(client)).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}
