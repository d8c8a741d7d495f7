//! The shell around the core's planners: it owns time, the watch and the proposing, and decides nothing.

mod driver;
mod propose;
mod queue;
mod status;

pub use driver::run;
pub use queue::Key;
pub use status::{LoopStatus, LoopTable};
