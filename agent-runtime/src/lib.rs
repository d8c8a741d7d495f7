//! Runs containers: given prepared layers and a specification, sets up namespaces, mounts, cgroups and filters, and
//! executes a program under a small supervisor that survives the caller.
//!
//! It knows nothing of images, services or clusters. [`Runtime`] is the whole interface; it is synchronous and may be
//! shared between threads.
//!
//! ```text
//!  Runtime ── plan::build (pure) ──▶ Plan ──memory file──▶ supervisor ──clone3──▶ init ──▶ program
//!     │                                                        │
//!     └── cgroups, directories, recovery          log, exit record, control socket
//! ```
//!
//! - Owns: `state_dir` (survives a reboot: writable layer, log, lock, state, exit record), `run_dir` (does not: the
//!   control sockets) and the cgroups below `cgroup_parent`. No mount of a container is ever visible in the caller's namespace.
//! - Woken by: calls, and one thread that waits for supervisors to end.
//! - When the caller dies: nothing happens to containers; [`Runtime::open`] finds them again.
//! - When a supervisor dies: the container is killed and its exit is recorded as lost.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests"))]

mod capability;
mod cdi;
mod cgroup;
mod check;
mod device;
mod directory;
mod error;
mod exec;
mod id;
pub mod log;
mod mounted;
mod plan;
mod prepare;
mod program;
mod runtime;
mod seccomp;
mod selinux;
mod spec;
mod status;
#[expect(unsafe_code, reason = "the one module that calls the kernel directly")]
mod sys;
mod validate;

pub use capability::{Capabilities, UnknownCapability};
pub use cgroup::{CgroupVersion, Stats};
pub use check::{HostFacts, check};
pub use coracle_runtime_protocol::{Failure, FailureKind};
pub use error::RuntimeError;
pub use exec::{ExecEnd, ExecResult, ExecSpec};
pub use id::{ContainerId, InvalidContainerId};
pub use runtime::{ContainerSummary, Runtime, RuntimeConfig};
pub use selinux::{SelinuxDefaults, SelinuxLabels, selinux_defaults};
pub use spec::{
    BindOptions, ContainerSpec, Device, HostNamespaces, LogConfig, Mount, Network, PlacedFiles, Propagation,
    ResourceLimit, Resources, Rootfs, Seccomp, SecretVariables, User,
};
pub use status::{Exit, ExitReason, Status};
pub use validate::{IPC_PARAMETERS, resource_limit_names};
