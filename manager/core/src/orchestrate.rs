//! What has to happen to the tasks of services: planners, each for one key.
//!
//! Every planner is level-triggered: it looks at what is, not at what happened, so that it may be called at
//! any time, by any leader, as often as one likes. Planning again right after applying changes nothing.

mod fit;
mod follow;
mod global;
mod job;
mod node;
mod reap;
mod rebalance;
mod replicated;
mod restart;
mod service;
mod slot;
mod some;
mod successor;
mod update;

pub use follow::plan_file;
pub use node::plan_node;
pub use reap::plan_reap;
pub use rebalance::{plan_rebalance, preview};
pub use restart::is_up_to_date;
pub use service::plan_service;

pub(crate) use fit::{constraints_admit, takes_global_task};
pub(crate) use job::{counts as run_counts, failures as run_failures};
pub(crate) use restart::{is_settled, why_settled};
pub(crate) use slot::{SlotTasks, slots_of};
