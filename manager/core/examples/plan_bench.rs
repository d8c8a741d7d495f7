//! What planning one change costs in a large cluster, and how much memory the cluster takes.
//!
//! `cargo run --release -p coracle-manager-core --example plan_bench [services] [tasks of each] [nodes]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, not the core"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use coracle_manager_core::{Change, Plan, Proposal, apply};
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::node::NodeState;
use coracle_model::service::ServiceMode;
use coracle_model::task::{TaskState, TaskStatus};
use coracle_model::version::Version;
use world::{Key, World, build};

/// Changes in one entry, as the manager has it.
const BATCH: usize = 500;
/// Completions of a job.
const COMPLETIONS: u64 = 10_000;
/// Repetitions of which the median is shown.
const ROUNDS: usize = 31;

fn write(world: &mut World, changes: Vec<Change>) {
    let proposal = Proposal {
        changes,
        actor: "bench".to_owned(),
        reason: String::new(),
        time: world.now,
        idempotency: None,
        term: 0,
    };
    let index = world.state.index() + 1;
    apply(&mut world.state, index, 1, &proposal).0.into_result().unwrap();
}

fn write_plan(world: &mut World, plan: Plan) {
    plan.into_batches(BATCH).into_iter().for_each(|batch| write(world, batch));
}

fn report(world: &mut World, state: TaskState, wanted: impl Fn(TaskState) -> bool, most: usize) {
    let status = |since| TaskStatus { state, since, ..TaskStatus::default() };
    let changes: Vec<Change> = world
        .state
        .tasks()
        .filter(|task| task.node.is_some() && wanted(task.status.state))
        .take(most)
        .map(|task| Change::ReportTask { task: task.id, node: task.node, status: status(world.now) })
        .collect();
    write_plan(world, Plan { changes, ..Plan::default() });
}

fn populate(services: u64, replicas: u64, nodes: u64) -> World {
    let mut world = World::default();
    for number in 1..=u128::from(nodes) {
        let resources = build::resources(1024 * build::CPU, 4096 * build::GIB);
        world.add_node(build::node(number, &format!("n{number}"), resources));
    }
    for number in 0..services {
        let mut spec = build::service_spec(&format!("s{number}"), 0);
        spec.task.reservations = build::resources(build::CPU / 100, build::GIB / 100);
        spec.mode = ServiceMode::Replicated { replicas };
        let service = world.add_service(spec);
        let plan = world.plan(Key::Service(service));
        write_plan(&mut world, plan);
    }
    let plan = world.plan(Key::Schedule);
    write_plan(&mut world, plan);
    report(&mut world, TaskState::Running, |state| state < TaskState::Running, usize::MAX);
    // Only the tests name tasks and keep entries.
    world.entries = Vec::new();
    world
}

/// Kilobytes of memory that this process holds; proc(5).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn numbered(round: usize) -> NodeId {
    NodeId::from_bits(round as u128 + 1)
}

fn set_node(world: &mut World, round: usize, state: NodeState) {
    write(world, vec![Change::SetNodeStatus { node: numbered(round), state, message: String::new() }]);
}

/// The agent of a node that returns has stopped what it was told to stop: before, the node is not ready.
fn end_tasks(world: &mut World, round: usize) {
    let status = |since| TaskStatus { state: TaskState::Shutdown, since, ..TaskStatus::default() };
    let tasks = world.state.tasks_on_node(numbered(round)).filter(|task| task.may_run());
    let changes: Vec<Change> = tasks
        .map(|task| Change::ReportTask { task: task.id, node: task.node, status: status(world.now) })
        .collect();
    write_plan(world, Plan { changes, ..Plan::default() });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The median time for planning these keys, each once, without what is written.
fn measure(world: &mut World, what: &str, of: &str, mut keys: impl FnMut(&mut World, usize) -> Vec<Key>) {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut spent = Duration::ZERO;
        for key in keys(world, round) {
            let began = Instant::now();
            let plan = world.plan(key);
            spent += began.elapsed();
            write_plan(world, plan);
        }
        times.push(spent);
    }
    let microseconds = median(times).as_secs_f64() * 1e6;
    println!("{what:<56} {microseconds:>12.1} us, planning of {of}");
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let services = arguments.next().unwrap_or(10_000);
    let replicas = arguments.next().unwrap_or(10);
    let nodes = arguments.next().unwrap_or(1_000);
    let mut world = populate(services, replicas, nodes);
    println!(
        "{services} services, {} tasks, {nodes} nodes\nmemory {} MiB",
        world.state.task_count(),
        resident() / 1024
    );
    let ids: Vec<ServiceId> = world.services.values().copied().collect();
    let pick = |round: usize| ids[round * 7919 % ids.len()];

    measure(&mut world, "a service gets one replica more", "service, scheduler", |world, round| {
        let service = pick(round);
        let (mut spec, expected) =
            world.state.service(service).map(|held| (held.spec.clone(), held.version)).unwrap();
        spec.mode = ServiceMode::Replicated { replicas: replicas + 1 };
        write(world, vec![Change::UpdateService { service, expected, spec: Box::new(spec) }]);
        vec![Key::Service(service), Key::Schedule]
    });
    measure(&mut world, "a task ends", "service, node, scheduler", |world, round| {
        let service = pick(round + ROUNDS);
        let task = world.state.tasks_of_service(service).find(|task| task.is_running()).unwrap();
        let (id, node) = (task.id, task.node);
        let status = TaskStatus { state: TaskState::Failed, since: world.now, ..TaskStatus::default() };
        write(world, vec![Change::ReportTask { task: id, node, status }]);
        vec![Key::Service(service), Key::Node(node.unwrap()), Key::Schedule]
    });
    let each = services * replicas / nodes;
    measure(
        &mut world,
        &format!("a node goes down that had {each} tasks"),
        "node, scheduler",
        |world, round| {
            set_node(world, round, NodeState::Down);
            vec![Key::Node(numbered(round)), Key::Schedule]
        },
    );
    measure(&mut world, "a node is down for longer", "node, scheduler", |_, round| {
        vec![Key::Node(numbered(round)), Key::Schedule]
    });
    measure(&mut world, "a node comes back", "node, scheduler", |world, round| {
        end_tasks(world, round);
        set_node(world, round, NodeState::Ready);
        assert!(world.state.node(numbered(round)).unwrap().takes_new_tasks());
        vec![Key::Node(numbered(round)), Key::Schedule]
    });
    let mut spec = build::service_spec("sum", 0);
    spec.mode = ServiceMode::ReplicatedJob { completions: COMPLETIONS, concurrent: 0 };
    let job = world.add_service(spec);
    let plan = world.plan(Key::Service(job));
    write_plan(&mut world, plan);
    measure(&mut world, &format!("a job of {COMPLETIONS} completions runs again"), "service", |world, _| {
        let plan = world.plan(Key::Reap(job));
        write_plan(world, plan);
        let (mut spec, expected) =
            world.state.service(job).map(|held| (held.spec.clone(), held.version)).unwrap();
        spec.task.force_update += 1;
        write(world, vec![Change::UpdateService { service: job, expected, spec: Box::new(spec) }]);
        vec![Key::Service(job)]
    });
    write(&mut world, vec![Change::RemoveService { service: job, expected: Version::default() }]);
    for key in [Key::Service(job), Key::Reap(job)] {
        let plan = world.plan(key);
        write_plan(&mut world, plan);
    }
    let mut spec = build::service_spec("large", 1000);
    spec.task.reservations = build::resources(2048 * build::CPU, 0);
    let large = world.add_service(spec);
    let plan = world.plan(Key::Service(large));
    write_plan(&mut world, plan);
    measure(&mut world, "1000 tasks fit nowhere", "scheduler", |_, _| vec![Key::Schedule]);
    for number in 0..100 {
        let mut spec = build::service_spec(&format!("large{number}"), 1);
        spec.task.reservations = build::resources(2048 * build::CPU, 0);
        let service = world.add_service(spec);
        let plan = world.plan(Key::Service(service));
        write_plan(&mut world, plan);
    }
    measure(&mut world, "tasks of 101 services fit nowhere", "scheduler", |_, _| vec![Key::Schedule]);
}
