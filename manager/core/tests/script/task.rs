//! `task …`

use coracle_manager_core::Change;
use coracle_model::task::{Exit, TaskState, TaskStatus};
use coracle_model::time::Timestamp;

use super::{Options, duration};
use crate::world::World;

pub fn run(world: &mut World, verb: &str, name: &str, options: &Options<'_>) -> Vec<String> {
    let task = world.task(name);
    let (state, error) = match verb {
        "run" => (TaskState::Running, ""),
        "ready" => (TaskState::Ready, ""),
        "complete" => (TaskState::Complete, ""),
        "fail" => (TaskState::Failed, "task: non-zero exit"),
        "reject" => (TaskState::Rejected, "no such image"),
        "stop" => (TaskState::Shutdown, ""),
        other => panic!("unknown command task {other}"),
    };
    let code = options.get("code").map(|code| Exit::Code(code.parse().unwrap()));
    // By the clock of a node that is behind.
    let behind = options.get("behind").map(duration).unwrap_or_default();
    let since = Timestamp::from_nanos(world.now.as_nanos() - behind.as_nanos() as u64);
    let status = TaskStatus { state, since, error: error.to_owned(), exit: code, ..TaskStatus::default() };
    let node = match options.get("from") {
        Some(name) => Some(world.nodes[name]),
        None => task.node,
    };
    world.write(vec![Change::ReportTask { task: task.id, node, status }]);
    Vec::new()
}
