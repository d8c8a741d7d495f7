//! Requests and archives between operators and nodes that are lost, too slow, or not who they should be.

mod sessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_model::id::{NodeId, SessionId};
use coracle_proto::status::Reason;
use coracle_proto::v1;
use coracle_proto::v1::manager_message::Message;
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_chunk::Part;
use coracle_proto::v1::volume_request::Operation;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Place, Read, TransferError, VolumeBroker};
use crate::dispatcher::registry::{Connected, Origin, Registry};

const LIMIT: Duration = Duration::from_secs(30);

/// A node as the broker sees it.
struct Node {
    place: Place,
    session: SessionId,
    close: CancellationToken,
    requests: mpsc::Receiver<Message>,
}

struct World {
    broker: Arc<VolumeBroker>,
    registry: Arc<Registry>,
    stop: CancellationToken,
}

impl World {
    fn new() -> Self {
        let (registry, stop) = (Arc::new(Registry::default()), CancellationToken::new());
        let broker = Arc::new(VolumeBroker::new(Arc::clone(&registry), stop.clone()));
        Self { broker, registry, stop }
    }

    /// A node that has told that it has no volumes.
    fn node(&self, bits: u128) -> Node {
        let node = self.silent_node(bits);
        let report = v1::VolumeReport { first: true, last: true, ..Default::default() };
        self.broker.report(node.place.node, node.session, report).unwrap();
        node
    }

    fn silent_node(&self, bits: u128) -> Node {
        let (node, session) = (NodeId::from_bits(bits), SessionId::from_bits(rand::random()));
        let (messages, requests) = mpsc::channel(8);
        let close = self.stop.child_token();
        let wake = Arc::new(Notify::new());
        let connected = Connected {
            origin: Origin::default(),
            certified: None,
            session,
            wake,
            messages,
            close: close.clone(),
            images: std::collections::BTreeSet::new(),
        };
        self.registry.enter(node, connected, Instant::now()).unwrap();
        Node { place: Place { node, hostname: format!("w{bits}") }, session, close, requests }
    }

    async fn inspect(&self, place: &Place) -> Result<Answer, Reason> {
        let operation = Operation::Inspect(v1::InspectVolume { name: "data".to_owned() });
        self.broker.ask(place, operation, LIMIT).await.map_err(|error| error.reason)
    }

    async fn remove(&self, place: &Place) -> Result<Answer, Reason> {
        let operation = Operation::Remove(v1::RemoveVolume { name: "data".to_owned() });
        self.broker.ask(place, operation, LIMIT).await.map_err(|error| error.reason)
    }

    fn answer(&self, from: &Node, id: &str, result: Answer) {
        let answer = v1::VolumeAnswer { id: id.to_owned(), result: Some(result) };
        self.broker.answered(from.place.node, answer);
    }

    fn waiting(&self) -> usize {
        self.broker.with(|all| all.len())
    }
}

impl Node {
    async fn request(&mut self) -> v1::VolumeRequest {
        match tokio::time::timeout(LIMIT, self.requests.recv()).await {
            Ok(Some(Message::Volume(request))) => request,
            other => panic!("no request: {other:?}"),
        }
    }
}

fn data(text: &'static str) -> v1::VolumeChunk {
    chunk(Part::Data(Bytes::from_static(text.as_bytes())))
}

fn end(bytes: u64) -> v1::VolumeChunk {
    chunk(Part::End(v1::VolumeEnd { bytes, ..Default::default() }))
}

fn chunk(part: Part) -> v1::VolumeChunk {
    v1::VolumeChunk { id: String::new(), part: Some(part) }
}

/// What an agent sends for a request.
fn archive(
    id: &str,
    chunks: Vec<v1::VolumeChunk>,
) -> impl Stream<Item = Result<v1::VolumeChunk, Status>> + Unpin {
    let head = v1::VolumeChunk { id: id.to_owned(), part: None };
    stream::iter([head].into_iter().chain(chunks).map(Ok::<_, Status>).collect::<Vec<_>>())
}

fn reason(error: TransferError) -> Reason {
    match error {
        TransferError::Refused(problem) => Reason::from_word(&problem.reason).unwrap(),
        TransferError::Failed(error) => error.reason,
    }
}

#[tokio::test]
async fn an_answer_reaches_who_asked_and_no_other_node_can_give_it() {
    let world = World::new();
    let (mut one, other) = (world.node(1), world.node(2));
    let place = one.place.clone();
    let agent = async {
        let id = one.request().await.id;
        world.answer(&other, &id, Answer::Removed(v1::VolumeRemoved {}));
        world.answer(&one, "nonsense", Answer::Removed(v1::VolumeRemoved {}));
        let detail = v1::VolumeDetail { mountpoint: "/here".to_owned(), ..Default::default() };
        world.answer(&one, &id, Answer::Inspected(detail.clone()));
        world.answer(&one, &id, Answer::Removed(v1::VolumeRemoved {}));
        detail
    };
    let (answer, detail) = tokio::join!(world.inspect(&place), agent);
    assert_eq!(answer, Ok(Answer::Inspected(detail)));
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn a_node_that_is_lost_ends_what_waits_for_it() {
    let world = World::new();
    let mut node = world.node(1);
    let place = node.place.clone();
    let lose = async {
        node.request().await;
        node.request().await;
        node.close.cancel();
    };
    let (read, removed, ()) = tokio::join!(world.inspect(&place), world.remove(&place), lose);
    assert_eq!(read, Err(Reason::Unavailable));
    assert_eq!(removed, Err(Reason::OutcomeUnknown), "it may have been done");
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn who_is_not_there_or_has_told_nothing_is_not_asked() {
    let world = World::new();
    let absent = Place { node: NodeId::from_bits(9), hostname: "w9".to_owned() };
    assert_eq!(world.remove(&absent).await, Err(Reason::Unavailable));
    let silent = world.silent_node(3);
    assert_eq!(world.remove(&silent.place).await, Err(Reason::Unavailable));
    assert_eq!(world.broker.volumes(silent.place.node), None);
}

#[tokio::test]
async fn what_an_ended_session_told_counts_no_more() {
    let world = World::new();
    let old = world.node(1);
    let new = world.silent_node(1);
    let late = v1::VolumeReport { first: true, last: true, ..Default::default() };
    world.broker.report(old.place.node, old.session, late).unwrap();
    world.broker.forget(old.place.node, old.session);
    assert_eq!(world.broker.volumes(new.place.node), None);
    world.registry.leave(new.place.node, new.session);
}

#[tokio::test]
async fn an_archive_comes_over_whole_and_only_from_its_node_and_once() {
    let world = World::new();
    let (mut node, other) = (world.node(1), world.node(2));
    let mut reading = world.broker.read(&node.place, "data".to_owned()).await.unwrap();
    let id = node.request().await.id;
    let forged = world.broker.publish(other.place.node, archive(&id, vec![data("bad")])).await;
    assert_eq!(forged.unwrap_err().reason, Reason::NotFound);
    let chunks = vec![data("some "), data("text"), end(9)];
    let publish = world.broker.publish(node.place.node, archive(&id, chunks));
    let read = async {
        let mut text = Vec::new();
        loop {
            match reading.next().await.unwrap() {
                Read::Data(data) => text.extend_from_slice(&data),
                Read::End(end) => return (text, end.bytes),
            }
        }
    };
    let (published, (text, bytes)) = tokio::join!(publish, read);
    published.unwrap();
    assert_eq!((text.as_slice(), bytes), (&b"some text"[..], 9));
    let again = world.broker.publish(node.place.node, archive(&id, vec![data("again")])).await;
    assert_eq!(again.unwrap_err().reason, Reason::NotFound, "a request is answered once");
    drop(reading);
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn an_archive_that_breaks_off_is_never_taken_for_whole() {
    let world = World::new();
    let mut node = world.node(1);
    for (chunks, wanted) in [
        (vec![data("half")], Reason::Unavailable),
        (vec![data("half"), end(5)], Reason::Unavailable),
        (vec![], Reason::Unavailable),
        (
            vec![
                data("half"),
                chunk(Part::Problem(v1::VolumeProblem {
                    reason: "exhausted".to_owned(),
                    ..Default::default()
                })),
            ],
            Reason::Exhausted,
        ),
    ] {
        let mut reading = world.broker.read(&node.place, "data".to_owned()).await.unwrap();
        let id = node.request().await.id;
        let publish = world.broker.publish(node.place.node, archive(&id, chunks));
        let read = async {
            loop {
                match reading.next().await {
                    Ok(Read::Data(_)) => {}
                    Ok(Read::End(_)) => panic!("half an archive counts as whole"),
                    Err(error) => return reason(error),
                }
            }
        };
        assert_eq!(tokio::join!(publish, read).1, wanted);
    }
}

#[tokio::test]
async fn an_operator_that_goes_stops_the_node() {
    let world = World::new();
    let mut node = world.node(1);
    let reading = world.broker.read(&node.place, "data".to_owned()).await.unwrap();
    let id = node.request().await.id;
    let endless = stream::once(async move { Ok(v1::VolumeChunk { id, part: None }) })
        .chain(stream::repeat_with(|| Ok(data("more"))))
        .boxed();
    let publish = world.broker.publish(node.place.node, endless);
    let leave = async {
        // Nobody reads: the node waits, with a few pieces on the way.
        tokio::task::yield_now().await;
        drop(reading);
    };
    let (published, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(publish, leave) }).await.unwrap();
    published.unwrap();
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn a_slow_operator_holds_the_node_back() {
    let world = World::new();
    let mut node = world.node(1);
    let mut reading = world.broker.read(&node.place, "data".to_owned()).await.unwrap();
    let id = node.request().await.id;
    let (sender, chunks) = mpsc::channel(1);
    let broker = Arc::clone(&world.broker);
    let from = node.place.node;
    let publish = tokio::spawn(async move { broker.publish(from, ReceiverStream::new(chunks)).await });
    sender.send(Ok(v1::VolumeChunk { id, part: None })).await.unwrap();
    let mut sent = 0_u64;
    // Until nothing moves any more: a few pieces are on the way and no more.
    while tokio::time::timeout(Duration::from_millis(200), sender.send(Ok(data("x")))).await.is_ok() {
        sent += 1;
        assert!(sent < 50, "pieces pile up");
    }
    let feed = async {
        for _ in 0..20 {
            sender.send(Ok(data("x"))).await.unwrap();
            sent += 1;
        }
        sender.send(Ok(end(sent))).await.unwrap();
    };
    let read = async {
        let mut bytes = 0;
        loop {
            match reading.next().await.unwrap() {
                Read::Data(data) => bytes += data.len() as u64,
                Read::End(end) => return (bytes, end.bytes),
            }
        }
    };
    let ((), (bytes, announced)) = tokio::join!(feed, read);
    assert_eq!(bytes, announced);
    publish.await.unwrap().unwrap();
}

fn write(name: &str) -> v1::WriteVolume {
    v1::WriteVolume { name: name.to_owned(), ..Default::default() }
}

async fn fetched(
    chunks: impl Stream<Item = Result<v1::VolumeChunk, Status>>,
) -> Result<(Vec<u8>, Option<u64>), Reason> {
    let mut chunks = std::pin::pin!(chunks);
    let (mut text, mut end) = (Vec::new(), None);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|status| coracle_proto::status::ApiError::from_status(&status).reason)?;
        match chunk.part {
            Some(Part::Data(data)) => text.extend_from_slice(&data),
            Some(Part::End(whole)) => end = Some(whole.bytes),
            other => panic!("{other:?}"),
        }
    }
    Ok((text, end))
}

#[tokio::test]
async fn two_archives_at_once_do_not_mix() {
    let world = World::new();
    let mut node = world.node(1);
    let mut first = world.broker.write(&node.place, write("one")).await.unwrap();
    let first_id = node.request().await.id;
    let mut second = world.broker.write(&node.place, write("two")).await.unwrap();
    let second_id = node.request().await.id;
    let from = node.place.node;
    let (one, two) =
        (world.broker.fetch(from, &first_id).unwrap(), world.broker.fetch(from, &second_id).unwrap());
    let agent = async |id: &str, name: &str, archive| {
        let whole = fetched(archive).await;
        let volume = Some(v1::Volume { name: name.to_owned(), ..Default::default() });
        world.answer(
            &node,
            id,
            Answer::Written(v1::VolumeWritten { volume, left_out: 0, attributes_left_out: 0 }),
        );
        whole
    };
    let send = async {
        for _ in 0..20 {
            first.put(Bytes::from_static(b"1")).await.map_err(reason).unwrap();
            second.put(Bytes::from_static(b"22")).await.map_err(reason).unwrap();
        }
        let (first, second) = tokio::join!(first.finish(), second.finish());
        let name = |(written, bytes): (v1::VolumeWritten, u64)| (written.volume.unwrap().name, bytes);
        (name(first.map_err(reason).unwrap()), name(second.map_err(reason).unwrap()))
    };
    let (one, two, names) =
        tokio::join!(agent(&first_id, "one", one.boxed()), agent(&second_id, "two", two.boxed()), send);
    assert_eq!(one, Ok((vec![b'1'; 20], Some(20))));
    assert_eq!(two, Ok((vec![b'2'; 40], Some(40))));
    assert_eq!(names, (("one".to_owned(), 20), ("two".to_owned(), 40)));
}

#[tokio::test]
async fn an_archive_is_for_one_node_and_for_once() {
    let world = World::new();
    let (mut node, other) = (world.node(1), world.node(2));
    let writing = world.broker.write(&node.place, write("data")).await.unwrap();
    let id = node.request().await.id;
    let refused =
        |node: &Node, id: &str| world.broker.fetch(node.place.node, id).err().map(|error| error.reason);
    assert_eq!(refused(&other, &id), Some(Reason::NotFound));
    assert_eq!(refused(&node, "nonsense"), Some(Reason::NotFound));
    assert_eq!(refused(&node, &id), None);
    assert_eq!(refused(&node, &id), Some(Reason::NotFound), "it was fetched");
    drop(writing);
    assert_eq!(refused(&node, &id), Some(Reason::NotFound));
}

#[tokio::test]
async fn an_operator_that_goes_leaves_the_node_without_an_end() {
    let world = World::new();
    let mut node = world.node(1);
    let mut writing = world.broker.write(&node.place, write("data")).await.unwrap();
    let id = node.request().await.id;
    let archive = world.broker.fetch(node.place.node, &id).unwrap();
    writing.put(Bytes::from_static(b"half")).await.map_err(reason).unwrap();
    drop(writing);
    assert_eq!(fetched(archive).await, Err(Reason::Unavailable));
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn a_node_that_refuses_or_is_lost_ends_a_restoration() {
    let world = World::new();
    let mut node = world.node(1);
    let mut writing = world.broker.write(&node.place, write("data")).await.unwrap();
    let id = node.request().await.id;
    let problem = v1::VolumeProblem { reason: "exists".to_owned(), ..Default::default() };
    world.answer(&node, &id, Answer::Problem(problem));
    assert_eq!(writing.put(Bytes::from_static(b"x")).await.map_err(reason), Err(Reason::Exists));

    let mut writing = world.broker.write(&node.place, write("data")).await.unwrap();
    node.request().await;
    node.close.cancel();
    assert_eq!(reason(writing.broken().await), Reason::Unavailable);
    assert_eq!(writing.put(Bytes::from_static(b"x")).await.map_err(reason), Err(Reason::Unavailable));
}

#[tokio::test]
async fn after_the_end_nobody_knows_what_became_of_it() {
    let world = World::new();
    let mut node = world.node(1);
    let writing = world.broker.write(&node.place, write("data")).await.unwrap();
    let id = node.request().await.id;
    let archive = world.broker.fetch(node.place.node, &id).unwrap();
    let lead = async {
        assert_eq!(fetched(archive).await, Ok((Vec::new(), Some(0))));
        world.stop.cancel();
    };
    let (finished, ()) = tokio::join!(writing.finish(), lead);
    assert_eq!(reason(finished.unwrap_err()), Reason::OutcomeUnknown);
}

#[tokio::test]
async fn archives_on_their_way_are_few() {
    let world = World::new();
    let node = world.node(1);
    let mut all = Vec::new();
    // The node's queue holds eight requests; the limit is beyond it.
    let mut node = node;
    for _ in 0..super::TRANSFERS {
        all.push(world.broker.read(&node.place, "data".to_owned()).await.unwrap());
        node.request().await;
    }
    let refused = world.broker.write(&node.place, write("data")).await.map(drop);
    assert_eq!(refused.unwrap_err().reason, Reason::Exhausted);
    all.pop();
    assert!(world.broker.write(&node.place, write("data")).await.is_ok());
}
