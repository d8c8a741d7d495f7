//! Log lines of a service or a task, from all nodes that have some.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_manager_core::Touched;
use coracle_manager_core::state::{State, View};
use coracle_model::id::{NodeId, ServiceId, TaskId};
use coracle_model::task::{Task, TaskState};
use coracle_proto::status::ApiError;
use coracle_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::resolve;
use crate::dispatcher::Term;
use crate::dispatcher::logs::{LogEvent, LogQuery, Subscriber};
use crate::store::{Store, Wake};

/// Chunks on their way to the operator.
const CHUNKS: usize = 16;
/// How long a node may be silent before its lines are counted as missing (without `--follow`).
const PATIENCE: Duration = Duration::from_secs(10);
/// How often somebody who follows looks whether nodes have come back: a session that begins again need not touch the state.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Target {
    Service(ServiceId),
    Task(TaskId),
}

type Sender = mpsc::Sender<Result<v1::ServiceLogChunk, Status>>;

/// Opens the stream.
///
/// # Errors
/// If the target does not exist or too many streams are open.
pub async fn open(
    store: Store,
    term: Term,
    request: v1::ServiceLogsRequest,
) -> Result<ReceiverStream<Result<v1::ServiceLogChunk, Status>>, ApiError> {
    let view = store.barrier().await?;
    let target = match resolve::service(&view, &request.target) {
        Ok(service) => Target::Service(service.id),
        Err(error) => Target::Task(resolve::task(&view, &request.target).map_err(|_| error)?.id),
    };
    let query = LogQuery { follow: request.follow, tail: request.tail, since: request.since };
    let subscriber = term.logs.subscribe(query)?;
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::spawn(run(store, term, target, subscriber, sender, query.follow));
    Ok(ReceiverStream::new(receiver))
}

async fn run(
    store: Store,
    term: Term,
    target: Target,
    mut subscriber: Subscriber,
    sender: Sender,
    follow: bool,
) {
    let mut feed = store.watch();
    let mut open: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut missing = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    subscriber.begin_with(tasks_by_node(&store.view(), target).into_values().flatten());
    extend(&store.view(), target, &mut subscriber, &sender, &mut open, &mut missing).await;
    loop {
        if !follow && open.is_empty() {
            return;
        }
        tokio::select! {
            () = term.stop.cancelled() => {
                let _ = sender.send(Err(Status::unavailable("leadership has changed; ask again"))).await;
                return;
            }
            () = sender.closed() => return,
            event = subscriber.events.recv() => match event {
                Some(LogEvent::Lines(node, lines)) => {
                    let chunk = render(&store.view(), node, subscriber.only_new(lines));
                    if !chunk.lines.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
                Some(LogEvent::Done(node)) => finish(&mut open, node),
                None => return,
            },
            () = tokio::time::sleep(PATIENCE), if !follow => {
                let view = store.view();
                let silent = |node: &NodeId| format!("{}: no answer in time", hostname(&view, *node));
                let missing = open.keys().map(silent).collect();
                let _ = sender.send(Ok(v1::ServiceLogChunk { lines: Vec::new(), missing })).await;
                return;
            }
            _ = look.tick(), if follow => {
                subscriber.forget_former_sessions();
                extend(&store.view(), target, &mut subscriber, &sender, &mut open, &mut missing).await;
            }
            wake = feed.next(), if follow => match wake {
                Wake::Closed => return,
                Wake::Touched(touched) if !concerns(&touched, target) => {}
                _ => {
                    let view = store.view();
                    // Nothing of a removed service is left that could print another line.
                    if is_gone(&view, target) && tasks_by_node(&view, target).is_empty() {
                        return;
                    }
                    extend(&view, target, &mut subscriber, &sender, &mut open, &mut missing).await;
                }
            },
        }
    }
}

fn finish(open: &mut BTreeMap<NodeId, usize>, node: NodeId) {
    if let Some(count) = open.get_mut(&node) {
        *count -= 1;
        if *count == 0 {
            open.remove(&node);
        }
    }
}

/// Asks the nodes of tasks that were not asked for yet. What is missing of a node is told once.
async fn extend(
    view: &View,
    target: Target,
    subscriber: &mut Subscriber,
    sender: &Sender,
    open: &mut BTreeMap<NodeId, usize>,
    missing: &mut BTreeMap<NodeId, String>,
) {
    let mut news = Vec::new();
    for (node, tasks) in tasks_by_node(view, target) {
        match subscriber.add(node, &tasks).await {
            Ok(true) => {
                *open.entry(node).or_default() += 1;
                missing.remove(&node);
            }
            Ok(false) => {}
            Err(why) => {
                if missing.insert(node, why.clone()).as_ref() != Some(&why) {
                    news.push(why);
                }
            }
        }
    }
    if !news.is_empty() {
        let _ = sender.send(Ok(v1::ServiceLogChunk { lines: Vec::new(), missing: news })).await;
    }
}

fn concerns(touched: &Touched, target: Target) -> bool {
    match target {
        Target::Service(service) => touched.services.contains(&service),
        Target::Task(task) => touched.tasks.contains(&task),
    }
}

fn is_gone(state: &State, target: Target) -> bool {
    match target {
        Target::Service(service) => state.service(service).is_none(),
        Target::Task(task) => state.task(task).is_none(),
    }
}

fn tasks_by_node(state: &State, target: Target) -> BTreeMap<NodeId, BTreeSet<TaskId>> {
    let tasks: Vec<&Arc<Task>> = match target {
        Target::Service(service) => state.tasks_of_service(service).collect(),
        Target::Task(task) => state.task(task).into_iter().collect(),
    };
    let mut nodes: BTreeMap<NodeId, BTreeSet<TaskId>> = BTreeMap::new();
    // One that its agent has not spoken of may be unknown there, and has no lines yet.
    for task in tasks.into_iter().filter(|task| task.status.state > TaskState::Assigned) {
        if let Some(node) = task.node {
            nodes.entry(node).or_default().insert(task.id);
        }
    }
    nodes
}

fn hostname(state: &State, node: NodeId) -> String {
    state.node(node).map_or_else(|| node.to_string(), |node| node.description.hostname.clone())
}

fn render(state: &State, node: NodeId, lines: Vec<v1::LogLine>) -> v1::ServiceLogChunk {
    let node_hostname = hostname(state, node);
    let line = |line: v1::LogLine| {
        let task = line.task.parse().ok().and_then(|task: TaskId| state.task(task));
        let service = task.and_then(|task| state.service(task.service));
        v1::ServiceLogLine {
            service_name: service.map(|service| service.spec.name.to_string()).unwrap_or_default(),
            slot: task.map(|task| (&task.slot).into()),
            task: line.task,
            node_hostname: node_hostname.clone(),
            time: line.time,
            stream: line.stream,
            text: line.text,
            partial: line.partial,
            service: task.map(|task| task.service.to_string()).unwrap_or_default(),
            node: node.to_string(),
        }
    };
    v1::ServiceLogChunk { lines: lines.into_iter().map(line).collect(), missing: Vec::new() }
}
