//! Secrets over arbitrary histories: no node is given what no task of its needs, and nobody loses what is needed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use coracle_manager_core::{Change, State, assign};
use coracle_model::cluster::Secret;
use coracle_model::id::{FileId, ServiceId};
use coracle_model::node::NodeState;
use coracle_model::secret::{Content, File, FileKind, FileReference, FileTarget};
use coracle_model::service::ServiceSpec;
use coracle_model::task::{DesiredState, TaskState};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use proptest::prelude::*;
use world::{World, build};

#[derive(Debug, Clone)]
enum Step {
    CreateFile,
    UpdateFile(usize, u8),
    RemoveFile(usize),
    AddService(usize, bool),
    UpdateService(usize, usize, bool),
    RollBack(usize),
    RemoveService(usize),
    Node(usize, bool),
    Report(usize, usize),
    Agents,
    Plan,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::CreateFile),
        (any::<usize>(), any::<u8>()).prop_map(|(file, data)| Step::UpdateFile(file, data)),
        (any::<usize>(), any::<u8>()).prop_map(|(file, data)| Step::UpdateFile(file, data)),
        any::<usize>().prop_map(Step::RemoveFile),
        (any::<usize>(), any::<bool>()).prop_map(|(file, pinned)| Step::AddService(file, pinned)),
        (any::<usize>(), any::<usize>(), any::<bool>())
            .prop_map(|(service, file, pinned)| Step::UpdateService(service, file, pinned)),
        any::<usize>().prop_map(Step::RollBack),
        any::<usize>().prop_map(Step::RemoveService),
        (any::<usize>(), any::<bool>()).prop_map(|(node, down)| Step::Node(node, down)),
        (any::<usize>(), 0..TaskState::ALL.len()).prop_map(|(task, state)| Step::Report(task, state)),
        Just(Step::Agents),
        Just(Step::Plan),
        Just(Step::Plan),
    ]
}

fn pick<T>(items: impl Iterator<Item = T>, at: usize) -> Option<T> {
    let mut items: Vec<T> = items.collect();
    (!items.is_empty()).then(|| items.swap_remove(at % items.len()))
}

fn file(number: usize) -> File {
    let content = Content { created_at: Timestamp::EPOCH, data: Secret::new(vec![0]) };
    File {
        id: FileId::from_bits(5000 + number as u128),
        kind: FileKind::Secret,
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        name: format!("key{number}").parse().unwrap(),
        labels: BTreeMap::new(),
        template: false,
        contents: BTreeMap::from([(1, content)]),
    }
}

fn give(world: &World, spec: &mut ServiceSpec, at: usize, pinned: bool) {
    let reference = |file: &File| FileReference {
        kind: file.kind,
        name: file.name.clone(),
        file: file.id,
        content: file.latest(),
        pinned,
        target: FileTarget::File { path: "key".to_owned(), uid: 0, gid: 0, mode: 0o444 },
    };
    spec.task.container.files =
        pick(world.state.files(), at).map(|file| reference(file)).into_iter().collect();
}

fn act(world: &mut World, at: usize, step: &Step) {
    let expected = Version::default();
    let service = |world: &World, at| pick(world.state.services().map(|service| service.id), at);
    // What is refused is refused.
    let _ = match step {
        Step::CreateFile => world.apply(vec![Change::CreateFile(file(at))]),
        Step::UpdateFile(which, data) => {
            let Some(file) = pick(world.state.files().map(|file| file.id), *which) else { return };
            let data = Some(Secret::new(vec![*data]));
            world.apply(vec![Change::UpdateFile { file, expected, labels: None, data }])
        }
        Step::RemoveFile(which) => {
            let Some(file) = pick(world.state.files().map(|file| file.id), *which) else { return };
            world.apply(vec![Change::RemoveFile { file, expected }])
        }
        Step::AddService(which, pinned) => {
            let mut spec = build::service_spec(&format!("s{at}"), 3);
            give(world, &mut spec, *which, *pinned);
            world.add_service(spec);
            return;
        }
        Step::UpdateService(which, file, pinned) => {
            let Some(id) = service(world, *which) else { return };
            let mut spec = world.state.service(id).unwrap().spec.clone();
            give(world, &mut spec, *file, *pinned);
            world.apply(vec![Change::UpdateService { service: id, expected, spec: Box::new(spec) }])
        }
        Step::RollBack(which) => {
            let Some(service) = service(world, *which) else { return };
            let message = String::new();
            world.apply(vec![Change::RollBackService { service, expected, message, automatic: false }])
        }
        Step::RemoveService(which) => {
            let Some(service): Option<ServiceId> = service(world, *which) else { return };
            world.apply(vec![Change::RemoveService { service, expected }])
        }
        Step::Node(which, down) => {
            let Some(node) = pick(world.state.nodes().map(|node| node.id), *which) else { return };
            let state = if *down { NodeState::Down } else { NodeState::Ready };
            world.apply(vec![Change::SetNodeStatus { node, state, message: String::new() }])
        }
        Step::Report(which, state) => {
            let Some(task) = pick(world.state.tasks().cloned(), *which) else { return };
            if task.node.is_some() {
                world.report(&task, TaskState::ALL[*state], "");
            }
            return;
        }
        Step::Agents => return world.agents_obey(),
        Step::Plan => return drop(world.settle()),
    };
}

fn check(state: &State) {
    for node in state.nodes() {
        let sent = assign::files(state, &assign::assignments(state, node.id));
        let mut needed = BTreeSet::new();
        for task in state.tasks().filter(|task| task.node == Some(node.id)) {
            let over = task.desired > DesiredState::Running || task.status.state > TaskState::Running;
            if !over && state.service(task.service).is_some() {
                let spec = state.task_spec(task.service, task.spec_version).unwrap();
                needed.extend(spec.container.files.iter().map(|file| (file.file, file.content)));
            }
        }
        assert_eq!(sent, needed, "what node {} is sent, and what it needs", node.id);
    }
    for service in state.services() {
        let before = service.previous_spec.as_deref();
        for reference in before.into_iter().chain([&service.spec]).flat_map(|spec| &spec.task.container.files)
        {
            let there =
                state.file(reference.file).is_some_and(|file| file.contents.contains_key(&reference.content));
            assert!(there, "{} refers to {reference:?}, which is gone", service.spec.name);
        }
    }
}

proptest! {
    #[test]
    fn nodes_have_what_their_tasks_need_and_nothing_else(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::default();
        world.add_nodes(2);
        for (at, step) in steps.iter().enumerate() {
            act(&mut world, at, step);
            check(&world.state);
        }
        world.settle();
        check(&world.state);
        for file in world.state.files() {
            let used = world.state.contents_in_use(file.id);
            let surplus = file.contents.keys().find(|number| **number != file.latest() && !used.contains(number));
            prop_assert_eq!(surplus, None, "nobody needs it");
        }
    }
}
