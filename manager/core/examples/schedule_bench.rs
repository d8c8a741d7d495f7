//! How many tasks are placed per second, writes to the state included.
//!
//! `cargo run --release -p coracle-manager-core --example schedule_bench [tasks] [nodes]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, not the core"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use coracle_manager_core::{Plan, PlanContext, Proposal, apply};
use coracle_model::service::ServiceMode;
use world::{Key, World, build};

/// Changes in one entry, as the manager has it.
const BATCH: usize = 500;

fn apply_all(world: &mut World, plan: Plan) -> usize {
    let changes = plan.changes.len();
    for batch in plan.into_batches(BATCH) {
        let proposal = Proposal {
            changes: batch,
            actor: "bench".to_owned(),
            reason: String::new(),
            time: world.now,
            idempotency: None,
            term: 0,
        };
        let index = world.state.index() + 1;
        apply(&mut world.state, index, 1, &proposal).0.into_result().unwrap();
    }
    changes
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let tasks = arguments.next().unwrap_or(10_000);
    let nodes = arguments.next().unwrap_or(1_000);
    let mut world = World::default();
    for number in 1..=u128::from(nodes) {
        let resources = build::resources(64 * build::CPU, 256 * build::GIB);
        world.add_node(build::node(number, &format!("n{number}"), resources));
    }
    let mut spec = build::service_spec("web", 0);
    spec.task.reservations = build::resources(build::CPU / 100, build::GIB / 100);
    spec.mode = ServiceMode::Replicated { replicas: tasks };
    let service = world.add_service(spec);

    let began = Instant::now();
    let plan = world.plan(Key::Service(service));
    let made = apply_all(&mut world, plan);
    let making = began.elapsed();

    let began = Instant::now();
    let mut context = PlanContext { now: world.now, ids: &mut world.ids };
    let plan = coracle_manager_core::schedule::plan_schedule(&world.state, &mut context);
    let planning = began.elapsed();
    let placed = apply_all(&mut world, plan);
    let placing = began.elapsed();

    assert_eq!(world.state.pending_count(), 0);
    let rate = |count: usize, time: std::time::Duration| count as f64 / time.as_secs_f64();
    println!("{nodes} nodes, {tasks} tasks");
    println!("made    {:>10.0} tasks/s ({making:?})", rate(made, making));
    println!("planned {:>10.0} tasks/s ({planning:?})", rate(placed, planning));
    println!("placed  {:>10.0} tasks/s ({placing:?}), planning and writing", rate(placed, placing));
}
