//! Volumes over a session: what managers are told, what they ask, and archives that come whole or not at all.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coracle_proto::v1;
use coracle_proto::v1::agent_message::Message as Up;
use coracle_proto::v1::manager_message::Message as Down;
use coracle_proto::v1::volume_answer::Result as Answer;
use coracle_proto::v1::volume_chunk::Part;
use coracle_proto::v1::volume_request::Operation;
use tonic::Status;

use super::manager::{DEADLINE, FakeManager, PlayedSession, World};
use super::rig::{Node, RunningAgent, eventually};
use crate::adapters::containers::Reality;
use coracle_model::id::TaskId;
use coracle_model::task::{DesiredState, TaskState};

struct Rig {
    node: Node,
    manager: FakeManager,
    session: PlayedSession,
    _agent: RunningAgent,
}

impl Rig {
    /// An agent in a session that has told that there are no volumes.
    async fn new() -> Self {
        let world = World::new();
        let node = Node::new(&world, 7);
        let mut manager = FakeManager::start(&world, 1).await;
        let agent = node.start(&[&manager.address]).await;
        let mut session = manager.welcomed(&world).await;
        let first = session.next_of_volumes().await;
        assert_eq!(first, Up::Volumes(v1::VolumeReport { first: true, last: true, ..Default::default() }));
        Self { node, manager, session, _agent: agent }
    }

    async fn ask(&self, id: &str, operation: Operation) {
        let request = v1::VolumeRequest { id: id.to_owned(), operation: Some(operation) };
        self.session.send(Down::Volume(request)).await;
    }

    /// The answer to a request, and the volumes that were told before it.
    async fn answer(&mut self, id: &str) -> (Answer, Vec<String>) {
        let mut told = Vec::new();
        loop {
            match self.session.next_of_volumes().await {
                Up::Volumes(report) => {
                    told.extend(report.set.into_iter().map(|volume| volume.name));
                    told.extend(report.removed.into_iter().map(|name| format!("-{name}")));
                }
                Up::VolumeAnswer(answer) => {
                    assert_eq!(answer.id, id);
                    return (answer.result.unwrap(), told);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn create(&mut self, name: &str) -> PathBuf {
        let create = v1::CreateVolume { name: name.to_owned(), ..Default::default() };
        self.ask("create", Operation::Create(create)).await;
        let (answer, told) = self.answer("create").await;
        assert!(matches!(answer, Answer::Created(created) if !created.existed));
        assert_eq!(told, [name], "the list goes before the answer");
        self.data(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.node.folder.path().join("volumes").join(name).join("_data")
    }

    /// The archive of a volume, or the problem that came instead.
    async fn read(&mut self, name: &str) -> Result<Vec<u8>, v1::VolumeProblem> {
        self.ask("read", Operation::Read(v1::ReadVolume { name: name.to_owned() })).await;
        let mut archive = Vec::new();
        loop {
            let chunk = tokio::time::timeout(DEADLINE, self.manager.volume_chunks.recv()).await.unwrap();
            match chunk.unwrap().unwrap().part {
                Some(Part::Data(data)) => archive.extend_from_slice(&data),
                Some(Part::End(end)) => {
                    assert_eq!(end.bytes, archive.len() as u64);
                    return Ok(archive);
                }
                Some(Part::Problem(problem)) => return Err(problem),
                None => {}
            }
        }
    }

    /// What becomes of a restoration that is sent these parts.
    async fn write(&mut self, name: &str, parts: Vec<Result<Part, Status>>) -> Answer {
        let archive = self.manager.give_archive("write");
        self.ask("write", Operation::Write(v1::WriteVolume { name: name.to_owned(), ..Default::default() }))
            .await;
        for part in parts {
            // One that has heard enough does not listen.
            let _ =
                archive.send(part.map(|part| v1::VolumeChunk { id: String::new(), part: Some(part) })).await;
        }
        drop(archive);
        self.answer("write").await.0
    }

    fn volumes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.node.folder.path().join("volumes")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn reason(answer: Answer) -> String {
    match answer {
        Answer::Problem(problem) => problem.reason,
        other => panic!("{other:?}"),
    }
}

fn parts(archive: &[u8], end: Option<u64>) -> Vec<Result<Part, Status>> {
    let data = archive.chunks(1000).map(|data| Ok(Part::Data(Bytes::copy_from_slice(data))));
    data.chain(end.map(|bytes| Ok(Part::End(v1::VolumeEnd { bytes, ..Default::default() })))).collect()
}

fn fill(data: &Path) {
    std::fs::create_dir(data.join("folder")).unwrap();
    std::fs::write(data.join("folder/file"), vec![7; 300_000]).unwrap();
    symlink("folder/file", data.join("link")).unwrap();
    std::fs::hard_link(data.join("folder/file"), data.join("again")).unwrap();
}

/// More than are made at a time wait for their volumes, and another task does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fills_a_volume_keeps_only_those_waiting_that_have_volumes() {
    let mut rig = Rig::new().await;
    let volume = v1::VolumeMount { name: "data".to_owned(), no_copy: true, ..Default::default() };
    let mount = v1::Mount {
        target: "/data".to_owned(),
        kind: Some(v1::mount::Kind::Volume(volume)),
        ..Default::default()
    };
    let filling = (1..=10).map(|bits| {
        let mut task = rig.node.task(bits, DesiredState::Running, &["filling"]);
        task.spec.as_mut().unwrap().container.as_mut().unwrap().mounts = vec![mount.clone()];
        task
    });
    let filling: Vec<v1::AssignedTask> = filling.collect();
    rig.session.complete(&filling).await;
    let begun = |bits| rig.node.containers.count("prepare", TaskId::from_bits(bits)) == 1;
    eventually("all wait for their volumes", || (1..=10).all(begun)).await;
    let other = rig.node.task(11, DesiredState::Running, &["run"]);
    rig.session.increment(&[other], &[]).await;
    rig.session.until(TaskId::from_bits(11), TaskState::Running, true).await;
    assert_eq!(rig.node.containers.count("create", TaskId::from_bits(1)), 0);
    rig.node.containers.fill();
    rig.session.until(TaskId::from_bits(1), TaskState::Running, true).await;
}

/// As they do whose binds have their sources on a network file system without a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_while_being_made_holds_up_no_others() {
    let mut rig = Rig::new().await;
    let all = 1..=crate::agent::creations() as u128;
    let hanging: Vec<_> =
        all.clone().map(|bits| rig.node.task(bits, DesiredState::Running, &["hanging"])).collect();
    rig.session.complete(&hanging).await;
    let begun = |bits| rig.node.containers.count("create", TaskId::from_bits(bits)) == 1;
    eventually("as many are being made as can be", || all.clone().all(begun)).await;
    let other = rig.node.task(11, DesiredState::Running, &["run"]);
    rig.session.increment(&[other], &[]).await;
    rig.session.until(TaskId::from_bits(11), TaskState::Running, true).await;
    assert_eq!(rig.node.containers.reality(TaskId::from_bits(1)), Reality::Absent);
    rig.node.containers.fill();
    rig.session.until(TaskId::from_bits(1), TaskState::Running, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_version_does_not_know_is_answered_too() {
    let mut rig = Rig::new().await;
    let request = v1::VolumeRequest { id: "new".to_owned(), operation: None };
    rig.session.send(Down::Volume(request)).await;
    let (answer, _) = rig.answer("new").await;
    assert!(matches!(answer, Answer::Problem(problem) if problem.hint == "update the node"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_made_told_looked_at_and_removed() {
    let mut rig = Rig::new().await;
    let data = rig.create("data").await;
    std::fs::write(data.join("file"), b"text").unwrap();
    rig.ask("inspect", Operation::Inspect(v1::InspectVolume { name: "data".to_owned() })).await;
    let (Answer::Inspected(detail), _) = rig.answer("inspect").await else { panic!("not inspected") };
    assert_eq!((detail.mountpoint.as_str(), detail.tasks.len()), (data.to_str().unwrap(), 0));
    assert!(detail.size.is_some_and(|size| size > 0) && detail.inodes.is_some_and(|inodes| inodes >= 1));
    rig.ask("again", Operation::Create(v1::CreateVolume { name: "data".to_owned(), ..Default::default() }))
        .await;
    let again = rig.answer("again").await;
    assert!(matches!(again.0, Answer::Created(created) if created.existed));
    assert!(again.1.is_empty(), "nothing changed");
    // Named ones are spared.
    rig.ask("prune", Operation::Prune(v1::PruneVolumes::default())).await;
    assert_eq!(rig.answer("prune").await.0, Answer::Pruned(v1::VolumesPruned::default()));
    rig.ask("rm", Operation::Remove(v1::RemoveVolume { name: "data".to_owned() })).await;
    assert_eq!(rig.answer("rm").await, (Answer::Removed(v1::VolumeRemoved {}), vec!["-data".to_owned()]));
    rig.ask("rm", Operation::Remove(v1::RemoveVolume { name: "data".to_owned() })).await;
    assert_eq!(reason(rig.answer("rm").await.0), "not-found");
    rig.ask("bad", Operation::Create(v1::CreateVolume { name: "../x".to_owned(), ..Default::default() }))
        .await;
    assert_eq!(reason(rig.answer("bad").await.0), "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_makes_an_equal_volume() {
    let mut rig = Rig::new().await;
    let data = rig.create("data").await;
    fill(&data);
    let archive = rig.read("data").await.unwrap();
    let answer = rig.write("copy", parts(&archive, Some(archive.len() as u64))).await;
    assert!(matches!(answer, Answer::Written(written) if written.volume.is_some()));
    let copy = rig.data("copy");
    assert_eq!(std::fs::read(copy.join("link")).unwrap(), vec![7; 300_000]);
    assert_eq!(std::fs::read_link(copy.join("link")).unwrap(), Path::new("folder/file"));
    let again = rig.read("copy").await.unwrap();
    assert!(again == archive, "the copy's archive is the same");
    let answer = rig.write("copy", parts(&archive, Some(archive.len() as u64))).await;
    assert_eq!(reason(answer), "exists");
    assert_eq!(rig.read("nope").await.unwrap_err().reason, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_not_whole_makes_nothing() {
    let mut rig = Rig::new().await;
    let data = rig.create("data").await;
    fill(&data);
    let archive = rig.read("data").await.unwrap();
    let half = &archive[..archive.len() / 2];
    let mut broken = parts(&archive, None);
    broken.push(Err(Status::unavailable("the leader is gone")));
    for (what, sent) in [
        ("no end", parts(&archive, None)),
        ("a wrong end", parts(&archive, Some(1))),
        ("half with an end", parts(half, Some(half.len() as u64))),
        ("nothing", Vec::new()),
        ("an error", broken),
    ] {
        let answer = rig.write("copy", sent).await;
        assert!(matches!(answer, Answer::Problem(_)), "{what}: {answer:?}");
        let left = rig.volumes().into_iter().filter(|name| name.contains("copy")).count();
        assert_eq!(left, 0, "{what}");
    }
    rig.ask("write", Operation::Write(v1::WriteVolume { name: "copy".to_owned(), ..Default::default() }))
        .await;
    assert_eq!(reason(rig.answer("write").await.0), "not-found", "the manager has nothing for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_ends_its_archives() {
    let mut rig = Rig::new().await;
    let data = rig.create("data").await;
    std::fs::write(data.join("file"), vec![1; 8 << 20]).unwrap();
    // Nobody takes what is sent, and what is fetched never ends.
    rig.ask("read", Operation::Read(v1::ReadVolume { name: "data".to_owned() })).await;
    tokio::time::timeout(DEADLINE, rig.manager.volume_chunks.recv()).await.unwrap().unwrap().unwrap();
    let archive = rig.manager.give_archive("write");
    rig.ask("write", Operation::Write(v1::WriteVolume { name: "copy".to_owned(), ..Default::default() }))
        .await;
    let part = Some(Part::Data(Bytes::from_static(b"x")));
    archive.send(Ok(v1::VolumeChunk { id: String::new(), part })).await.unwrap();
    eventually("the archive is fetched", || archive.capacity() == archive.max_capacity()).await;
    let store = rig._agent.handle.volumes().clone();
    let held = store.remove("data").unwrap_err().to_string();
    assert!(held.contains("backed up"), "{held}");
    let Rig { node: _node, manager: _manager, session, _agent } = rig;
    drop(session);
    eventually("the volume is no longer read", || store.remove("data").is_ok()).await;
    eventually("the archive is no longer fetched", || archive.is_closed()).await;
    assert!(store.get("copy").is_err());
}
