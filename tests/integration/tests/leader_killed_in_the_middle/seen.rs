//! What a look at the cluster tells of one service, compared with a look before it began.

use std::collections::{BTreeMap, BTreeSet};

use coracle_integration::view::{Task, View, number};
use coracle_model::task::TaskState;
use coracle_proto::v1;

/// Tasks that run and did not before.
pub(crate) fn new_running(before: &View, view: &View, service: &str) -> usize {
    view.running_ids(service).difference(&ids(before, service)).count()
}

/// Tasks that are wanted.
pub(crate) fn wanted(view: &View, service: &str) -> usize {
    view.tasks_of(service).filter(|task| task.is_wanted() && !task.is_terminal()).count()
}

/// Tasks that may still have a process.
pub(crate) fn not_ended(view: &View, service: &str) -> usize {
    view.tasks_of(service).filter(|task| !task.is_terminal()).count()
}

/// All tasks of the service that were ever seen there.
pub(crate) fn ids(view: &View, service: &str) -> BTreeSet<String> {
    view.tasks_of(service).map(|task| task.id.clone()).collect()
}

/// Tasks on a node that are wanted.
pub(crate) fn ids_on(view: &View, service: &str, node: &str) -> BTreeSet<String> {
    let there = |task: &&Task| task.node == node && task.is_running();
    view.tasks_of(service).filter(there).map(|task| task.id.clone()).collect()
}

/// How often a task of each slot completed.
pub(crate) fn completions(view: &View, service: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for task in view.tasks_of(service).filter(|task| task.state == number(TaskState::Complete)) {
        *found.entry(task.slot.clone()).or_default() += 1;
    }
    found
}

/// How far the service's update is, and how many of its new tasks failed.
pub(crate) fn update(view: &View, service: &str) -> Option<(v1::UpdateState, usize)> {
    let update = item(view, service)?.service.as_ref()?.update.as_ref()?;
    Some((update.state(), update.failed.len()))
}

/// Completions of a job, and how many there have to be.
pub(crate) fn completed(view: &View, service: &str) -> (u64, u64) {
    let counts = item(view, service).and_then(|item| item.counts.as_ref());
    counts.map_or((0, 0), |counts| (counts.completed, counts.total))
}

fn item<'view>(view: &'view View, service: &str) -> Option<&'view v1::ServiceListItem> {
    let named = |item: &&v1::ServiceListItem| {
        let spec = item.service.as_ref().and_then(|service| service.spec.as_ref());
        spec.is_some_and(|spec| spec.name == service)
    };
    view.services.iter().find(named)
}

/// Complains when fewer tasks run than should at any time.
pub(crate) fn at_least(view: &View, service: &str, least: usize) -> Option<String> {
    let running = view.running(service);
    (running < least).then(|| format!("only {running} of {service} run, and there must be {least}"))
}

/// Complains when a task that should be left alone does not run any more.
pub(crate) fn all_run(view: &View, service: &str, tasks: &BTreeSet<String>) -> Option<String> {
    let lost: Vec<_> = tasks.difference(&view.running_ids(service)).cloned().collect();
    (!lost.is_empty()).then(|| format!("tasks of {service} were disturbed: {lost:?}"))
}
