//! Planning some slots of a service without a look at the others.
//!
//! Each slot is judged by itself. The others matter to how many slots there are, which the service's own planner sees to,
//! and to a job or an update, which counts what is under way: these are planned whole or not at all.

use std::collections::BTreeSet;

use coracle_model::id::ServiceId;
use coracle_model::service::{Service, ServiceMode};
use coracle_model::task::Slot;

use super::service::{Verdict, carry_out, judge, relieve};
use super::slot::{SlotTasks, slot_of};
use super::{fit, takes_global_task};
use crate::plan::{Plan, PlanContext};
use crate::state::State;

/// What has to happen in these slots; nothing where the others matter.
pub(super) fn plan_slots(
    state: &State,
    id: ServiceId,
    slots: &BTreeSet<Slot>,
    context: &mut PlanContext<'_>,
) -> Option<Plan> {
    let service = state.service(id).filter(|service| !is_about_all(service))?;
    let now = context.present(state);
    let mut plan = Plan::default();
    for slot in slots {
        let tasks = slot_of(state, id, *slot);
        match place(state, service, &tasks) {
            Place::Kept => {
                let judged = judge(state, service, &tasks, now);
                if matches!(judged.verdict, Verdict::Outdated(_)) {
                    return None;
                }
                relieve(&judged.relieved, service, &mut plan);
                let tasks = tasks.without(&judged.relieved);
                carry_out(state, service, &tasks, &judged.verdict, context, &mut plan);
            }
            Place::Cleared => tasks.clear(service.version, &mut plan),
            Place::Unused => {}
            Place::Unclear => return None,
        }
    }
    Some(plan)
}

/// Whether a slot can be planned only with all the others.
fn is_about_all(service: &Service) -> bool {
    let updating =
        service.update.as_ref().is_some_and(|update| update.state.is_active() || update.state.is_paused());
    updating || service.spec.mode.is_job()
}

/// What becomes of a slot, whatever its tasks do.
enum Place {
    /// It has a task, or gets one.
    Kept,
    /// Whatever is in it goes.
    Cleared,
    /// There is nothing in it but records.
    Unused,
    /// The service's planner knows more of it.
    Unclear,
}

fn place(state: &State, service: &Service, slot: &SlotTasks) -> Place {
    match (&service.spec.mode, slot.slot) {
        (ServiceMode::Replicated { .. }, Slot::Number(_)) if slot.is_held() => Place::Kept,
        (ServiceMode::Replicated { .. }, Slot::Number(_)) => Place::Unused,
        (ServiceMode::Global, Slot::Node(id)) => {
            let spec = &service.spec.task;
            if state.node(id).is_some_and(|node| takes_global_task(spec, node)) {
                Place::Kept
            } else if fit::keeps(state, spec, id) {
                Place::Unclear
            } else {
                Place::Cleared
            }
        }
        _ => Place::Unclear,
    }
}
