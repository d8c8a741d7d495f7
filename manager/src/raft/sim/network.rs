//! The network between simulated managers. It carries the HTTP requests of the real gRPC client to the real gRPC server:
//! late, not at all, or, if they are single calls, twice.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use coracle_disk::testing::Seeded;
use coracle_proto::v1::raft_transport_server::RaftTransportServer;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tower::util::BoxCloneSyncService;

use super::life::{Life, lock};
use super::runtime::{Simulated, sleep};
use crate::raft::ConnectError;
use crate::raft::network::{Connect, Transport, TransportError};
use crate::raft::service::RaftService;
use votes::Votes;

mod pump;
mod votes;

/// After this long a connection to somebody who does not answer is given up.
const CONNECT: Duration = Duration::from_secs(1);

/// After this long an open connection through which nothing comes is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// How the way from one manager to another is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Nothing gets through.
    pub(super) cut: bool,
    /// Delay beside the usual, in microseconds.
    pub(super) fixed: u64,
    /// Longest extra delay, in microseconds.
    pub(super) slow: u64,
    /// How many of a thousand single calls or answers are lost.
    pub(super) loss: u64,
    /// How many of a thousand single calls arrive twice.
    pub(super) twice: u64,
}

/// What a manager's machine does with what arrives.
#[derive(Clone)]
enum Port {
    /// No machine is there: silence.
    Off,
    /// The process is not there: refused.
    Closed,
    Open {
        server: RaftTransportServer<RaftService<Simulated>>,
        life: Arc<Life>,
    },
}

/// The network.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<Inner>>);

struct Inner {
    seeded: Seeded,
    ports: BTreeMap<u64, Port>,
    ways: BTreeMap<(u64, u64), Way>,
    votes: Votes,
    /// Calls carried, by method.
    calls: BTreeMap<String, u64>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let inner = Inner {
            seeded: Seeded::new(seed),
            ports: BTreeMap::new(),
            ways: BTreeMap::new(),
            votes: Votes::default(),
            calls: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Connects a manager to the others.
    pub(super) fn connector(&self, from: u64) -> Arc<dyn Connect> {
        Arc::new(Connector { network: self.clone(), from })
    }

    pub(super) fn open(&self, raft_id: u64, service: RaftService<Simulated>, life: Arc<Life>) {
        lock(&self.0).ports.insert(raft_id, Port::Open { server: service.into_server(), life });
    }

    /// The process ended; with its machine, if `machine`.
    pub(super) fn close(&self, raft_id: u64, machine: bool) {
        lock(&self.0).ports.insert(raft_id, if machine { Port::Off } else { Port::Closed });
    }

    /// Changes the ways that `which` chooses (from, to), of all pairs of `ids`.
    pub(super) fn change(&self, ids: &[u64], which: impl Fn(u64, u64) -> bool, change: impl Fn(&mut Way)) {
        let mut inner = lock(&self.0);
        for from in ids {
            for to in ids {
                if from != to && which(*from, *to) {
                    change(inner.ways.entry((*from, *to)).or_default());
                }
            }
        }
    }

    /// Makes every way good again.
    pub(super) fn heal(&self) {
        lock(&self.0).ways.clear();
    }

    /// What is wrong with the votes that were seen, if anything.
    pub(super) fn double_vote(&self) -> Option<String> {
        lock(&self.0).votes.wrong.clone()
    }

    /// How many calls were carried, by method; `Message` are the requests on streams of heartbeats.
    pub(super) fn calls(&self) -> BTreeMap<String, u64> {
        lock(&self.0).calls.clone()
    }

    fn way(&self, from: u64, to: u64) -> Way {
        lock(&self.0).ways.get(&(from, to)).copied().unwrap_or_default()
    }

    fn port(&self, raft_id: u64) -> Port {
        lock(&self.0).ports.get(&raft_id).cloned().unwrap_or(Port::Off)
    }

    fn is_dark(&self, from: u64, to: u64) -> bool {
        self.way(from, to).cut || matches!(self.port(to), Port::Off) || matches!(self.port(from), Port::Off)
    }

    fn chance(&self, of_thousand: u64) -> bool {
        of_thousand > 0 && lock(&self.0).seeded.below(1000) < of_thousand
    }

    fn delay(&self, from: u64, to: u64) -> Duration {
        let Way { slow, fixed, .. } = self.way(from, to);
        let mut inner = lock(&self.0);
        Duration::from_micros(fixed + 200 + inner.seeded.below(800) + inner.seeded.below(slow + 1))
    }

    /// Brings one message over; `false` when it is lost.
    async fn carry(&self, from: u64, to: u64) -> bool {
        if self.is_dark(from, to) || self.chance(self.way(from, to).loss) {
            return false;
        }
        sleep(self.delay(from, to)).await;
        !self.is_dark(from, to)
    }

    async fn call(
        self,
        from: u64,
        to: u64,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        *lock(&self.0).calls.entry(method.clone()).or_default() += 1;
        if !self.carry(from, to).await {
            sleep(CONNECT).await;
            return Err(failed("no connection"));
        }
        let Port::Open { server, life } = self.port(to) else { return Err(failed("connection refused")) };
        let answer = if matches!(method.as_str(), "Append" | "Heartbeats" | "InstallSnapshot") {
            let counted = method == "Heartbeats";
            let request = request.map(|body| self.pump(from, to, counted, body));
            let network = self.clone();
            answered_by(&life, async move {
                // The answers are pumped by the one who answers.
                serve(server, request).await.map(|body| network.pump(to, from, false, body))
            })
        } else {
            self.single(server, &life, (from, to), &method, request).await?
        };
        // The process may end instead of answering.
        let Ok(answer) = answer.await else { return Err(failed("connection reset")) };
        if self.carry(to, from).await {
            return Ok(answer);
        }
        sleep(KEEP_ALIVE).await;
        Err(failed("connection timed out"))
    }

    /// A call with one message and one answer.
    async fn single(
        &self,
        server: RaftTransportServer<RaftService<Simulated>>,
        life: &Arc<Life>,
        (from, to): (u64, u64),
        method: &str,
        request: http::Request<Body>,
    ) -> Result<oneshot::Receiver<http::Response<Body>>, TransportError> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.map_err(|status| TransportError(status.into()))?.to_bytes();
        let copy = || http::Request::from_parts(head.clone(), Body::new(Full::new(bytes.clone())));
        if self.chance(self.way(from, to).twice) {
            let (server, request, pause) = (server.clone(), copy(), self.delay(from, to) * 20);
            drop(life.spawn(async move {
                sleep(pause).await;
                serve(server, request).await
            }));
        }
        let (request, network, is_vote) = (copy(), self.clone(), method == "Vote");
        Ok(answered_by(life, async move {
            let (head, body) = serve(server, request).await.into_parts();
            let Ok(answer) = body.collect().await else {
                return http::Response::from_parts(head, Body::empty());
            };
            let trailers = answer.trailers().cloned();
            let answer = answer.to_bytes();
            if is_vote {
                lock(&network.0).votes.note(to, &bytes, &answer);
            }
            let body = Full::new(answer).with_trailers(std::future::ready(trailers.map(Ok)));
            http::Response::from_parts(head, Body::new(body))
        }))
    }
}

/// Lets a process answer; fails when it ends before.
fn answered_by(
    life: &Arc<Life>,
    answer: impl Future<Output = http::Response<Body>> + Send + 'static,
) -> oneshot::Receiver<http::Response<Body>> {
    let (sender, receiver) = oneshot::channel();
    drop(life.spawn(async move {
        let _ = sender.send(answer.await);
    }));
    receiver
}

async fn serve(
    mut server: RaftTransportServer<RaftService<Simulated>>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    match server.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn failed(what: &str) -> TransportError {
    TransportError(Status::unavailable(what).into())
}

struct Connector {
    network: Network,
    from: u64,
}

impl Connect for Connector {
    fn connect(&self, raft_id: u64, _address: &str) -> Result<Transport, ConnectError> {
        Ok(BoxCloneSyncService::new(Channel { network: self.network.clone(), from: self.from, to: raft_id }))
    }
}

/// One connection.
#[derive(Clone)]
struct Channel {
    network: Network,
    from: u64,
    to: u64,
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.network.clone().call(self.from, self.to, request))
    }
}
