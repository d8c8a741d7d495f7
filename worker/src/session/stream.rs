//! One session, from Hello to its end.

use std::time::Duration;

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::dispatcher_client::DispatcherClient;
use coracle_proto::v1::manager_message::Message as Down;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use super::Links;
use super::fence::{Fence, Judgement};
use super::volumes::{Manager, Volumes};
use crate::desk::Event;
use crate::logs::Subscriptions;
use crate::task::runner::blocking;

/// Longest wait for a manager's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// Heartbeats without an answer after which the manager counts as gone.
const MISSED: u32 = 3;
/// Bounds of the period between heartbeats, whatever a manager asks for.
const PERIOD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
/// Bytes of one message of a manager: a complete set may hold many large specifications.
const MESSAGE: usize = 64 << 20;
/// Messages between the session and the network.
const OUTBOUND: usize = 64;

/// How a session ended, or why there was none.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon ends.
    Stopped,
    /// Somebody else leads: `IP:PORT`, or nobody at the moment.
    Redirected(String),
    /// What the manager says does not fit: the same manager is asked again.
    OutOfStep(String),
    /// The manager says that this node was removed: why, in its words.
    Removed(String),
    /// Why.
    Ended(String),
}

struct Session<'a> {
    links: &'a Links,
    channel: Channel,
    up: mpsc::Sender<v1::AgentMessage>,
    subscriptions: Subscriptions,
    volumes: Volumes,
    /// The assignment sequence in force.
    sequence: u64,
    settled: Option<oneshot::Receiver<()>>,
    _heartbeat: AbortOnDropHandle<()>,
}

/// Opens a session and holds it until it ends.
pub(super) async fn hold(
    links: &Links,
    fence: &mut Fence,
    address: &str,
    channel: Channel,
    stop: &CancellationToken,
) -> End {
    let (up, outbound) = mpsc::channel(OUTBOUND);
    // What changes from here on is told after Hello.
    let mut held = links.held.clone();
    held.mark_unchanged();
    let mut address_of = links.advertise_address.clone();
    address_of.mark_unchanged();
    let Some(hello) = hello(links).await else { return End::Stopped };
    // There is room for the first message.
    let _ = up.send(message(Up::Hello(hello))).await;
    let opened = async {
        let mut client = DispatcherClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
        let mut down = client.session(ReceiverStream::new(outbound)).await?.into_inner();
        let first = down.message().await?;
        Ok::<_, tonic::Status>((down, first))
    };
    let opened = tokio::select! {
        () = stop.cancelled() => return End::Stopped,
        opened = timeout(FIRST_ANSWER, opened) => opened,
    };
    let (down, first) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return refused(&status),
        Err(_) => return End::Ended(format!("no answer within {} s", FIRST_ANSWER.as_secs())),
    };
    let welcome = match first.and_then(|first| first.message) {
        Some(Down::Welcome(welcome)) => welcome,
        Some(Down::Redirect(redirect)) => return End::Redirected(redirect.leader),
        Some(_) => return End::Ended("first answer is neither a welcome nor a redirection".to_owned()),
        None => return End::Ended("closed at once".to_owned()),
    };
    match fence.judge(welcome.term, Instant::now()) {
        Judgement::Known => {}
        Judgement::New => links.journal.put_term(welcome.term),
        Judgement::Older(ours) => {
            warn!(manager = %address, term = welcome.term, ours, "a leader of an older term is refused");
            return End::Ended(format!(
                "it leads in term {}, this node has been with term {ours}",
                welcome.term
            ));
        }
    }
    info!(manager = %address, session = %welcome.session_id, "session opened");
    let period = Duration::from_nanos(welcome.heartbeat_period).clamp(PERIOD.0, PERIOD.1);
    links.manager.send_replace(Some(channel.clone()));
    links.session_with.send_replace(Some(address.to_owned()));
    links.tell(Event::Welcome(Box::new(welcome))).await;
    let heartbeat = AbortOnDropHandle::new(tokio::spawn(heartbeat(up.clone(), period)));
    let subscriptions = Subscriptions::new(links.containers.clone());
    let manager = Manager { up: up.clone(), address: address.to_owned(), identity: links.identity.clone() };
    let volumes = Volumes::begin(links.volumes.clone(), manager);
    let mut session = Session {
        links,
        channel,
        up,
        subscriptions,
        volumes,
        sequence: 0,
        settled: None,
        _heartbeat: heartbeat,
    };
    session.go_on(down, held, address_of, period, stop).await
}

fn refused(status: &tonic::Status) -> End {
    match ApiError::from_status(status) {
        ApiError { reason: Reason::Removed, message, .. } => End::Removed(message),
        _ => End::Ended(format!("{}: {}", status.code(), status.message())),
    }
}

/// Beats on its own, whatever else goes on.
async fn heartbeat(up: mpsc::Sender<v1::AgentMessage>, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if up.send(message(Up::Heartbeat(v1::Heartbeat {}))).await.is_err() {
            return;
        }
    }
}

fn message(message: Up) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

async fn hello(links: &Links) -> Option<v1::Hello> {
    let images = held_images(links).await;
    let tasks = links.ask(Event::Hello).await?;
    Some(v1::Hello {
        description: Some(links.description.clone()),
        address: links.advertise_address.borrow().clone(),
        tasks,
        images: Some(images),
    })
}

async fn held_images(links: &Links) -> v1::HeldImages {
    let images = links.images.clone();
    let listed = blocking(move || images.list()).await;
    let records = match listed {
        Some(Ok(records)) => records,
        Some(Err(error)) => {
            tracing::warn!(error = %coracle_daemon::ErrorChain(&error), "images cannot be listed: managers are told of none");
            Vec::new()
        }
        None => Vec::new(),
    };
    v1::HeldImages { digests: records.iter().map(|record| record.manifest.to_string()).collect() }
}

impl Session<'_> {
    async fn go_on(
        &mut self,
        mut down: Streaming<v1::ManagerMessage>,
        mut held: watch::Receiver<u64>,
        mut address: watch::Receiver<String>,
        period: Duration,
        stop: &CancellationToken,
    ) -> End {
        let mut heard = Instant::now();
        self.send_statuses().await;
        loop {
            // All arms are cancel-safe: the stream keeps a message that is half received. What was received while another arm
            // took its time is read before it is said that nothing was.
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                received = down.message() => {
                    heard = Instant::now();
                    let received = match received {
                        Ok(Some(received)) => received,
                        Ok(None) => return End::Ended("closed by the manager".to_owned()),
                        Err(status) => return End::Ended(format!("{}: {}", status.code(), status.message())),
                    };
                    if let Err(end) = self.on_message(received).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(heard + MISSED * period) => {
                    return End::Ended(format!("{MISSED} heartbeats without an answer"));
                }
                () = self.links.outgoing.filled() => self.send_statuses().await,
                settled = settled(&mut self.settled) => if settled {
                    // Managers read that the stale tasks ended before they read that the node is in step.
                    self.send_statuses().await;
                    self.send(Up::Synced(v1::Synced { sequence: self.sequence })).await;
                },
                Ok(()) = address.changed() => {
                    return End::OutOfStep(format!("this node is at {} now", *address.borrow()));
                }
                changed = held.changed() => {
                    if changed.is_err() {
                        return End::Stopped;
                    }
                    let images = held_images(self.links).await;
                    self.send(Up::Images(images)).await;
                }
            }
        }
    }

    /// A stream that is closed is noticed by its other half.
    async fn send(&self, what: Up) {
        let _ = self.up.send(message(what)).await;
    }

    async fn send_statuses(&self) {
        let Some(batch) = self.links.outgoing.outbox().take() else { return };
        let tasks = batch
            .statuses
            .iter()
            .map(|(task, status)| v1::TaskReport { task: task.to_string(), status: Some(status.into()) });
        self.send(Up::Statuses(v1::StatusReport { sequence: batch.sequence, tasks: tasks.collect() })).await;
    }

    async fn on_message(&mut self, received: v1::ManagerMessage) -> Result<(), End> {
        match received.message {
            Some(Down::HeartbeatAck(_)) => {}
            Some(Down::File(file)) => self.links.files.put(file).map_err(End::OutOfStep)?,
            Some(Down::Assignments(assignments)) => self.on_assignments(assignments).await?,
            Some(Down::StatusAck(ack)) => {
                let acknowledged = self.links.outgoing.outbox().acknowledge(ack.sequence);
                self.links.tell(Event::Acknowledged(acknowledged)).await;
                self.send_statuses().await;
            }
            Some(Down::Node(update)) => self.links.tell(Event::Node(update)).await,
            Some(Down::Managers(list)) => self.links.tell(Event::Managers(list)).await,
            Some(Down::SubscribeLogs(subscription)) => {
                let id = subscription.id.clone();
                let queries = self.links.ask(|reply| Event::Logs(Box::new(subscription), reply)).await;
                self.subscriptions.begin(id, queries.ok_or(End::Stopped)?, self.channel.clone());
            }
            Some(Down::Volume(request)) => self.volumes.serve(request),
            Some(Down::CancelLogs(cancel)) => self.subscriptions.cancel(&cancel.id),
            Some(Down::Redirect(redirect)) => return Err(End::Redirected(redirect.leader)),
            Some(Down::Welcome(_)) => return Err(End::OutOfStep("welcomed twice".to_owned())),
            // A newer manager may say more.
            None => debug!("a manager says something that this version does not know"),
        }
        Ok(())
    }

    async fn on_assignments(&mut self, assignments: v1::Assignments) -> Result<(), End> {
        let applied =
            self.links.ask(|reply| Event::Assignments(assignments, reply)).await.ok_or(End::Stopped)?;
        let applied = applied.map_err(|error| End::OutOfStep(error.to_string()))?;
        self.sequence = applied.sequence;
        if applied.settled.is_some() {
            self.settled = applied.settled;
        }
        Ok(())
    }
}

/// Whether what was waited for came; not if it was replaced by something newer.
async fn settled(waiting: &mut Option<oneshot::Receiver<()>>) -> bool {
    match waiting {
        Some(receiver) => {
            let came = receiver.await.is_ok();
            *waiting = None;
            came
        }
        None => std::future::pending().await,
    }
}
