//! Init of the container: carries the plan out and becomes the program.

use crate::error::{CallError, During, InCall};
use crate::identity::{self, Identity};
use crate::mount::{self, Bind, Mounts};
use crate::sync::{CREATED, EXECUTING, FAILED, HOOK, TERMINAL};
use crate::{hook, reaper, restrict, sweep, sys};
use coracle_runtime_protocol::{Failure, FailureKind, HookPlace, Plan, Program, ResourceLimit, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::CString;
use std::fs;

/// The ends of the pipes and of the socket that init keeps.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) sync: OwnedFd,
}

/// Never returns; failures go to the supervisor.
pub(crate) fn run(plan: &Plan, streams: &Streams, budget: hook::Budget) -> ! {
    if let Err(failure) = set_up_and_execute(plan, streams, budget) {
        tell(streams.sync.as_fd(), &failure);
    }
    sys::exit_now(127)
}

pub(crate) fn tell(sync: BorrowedFd<'_>, failure: &Failure) {
    let mut message = vec![FAILED];
    if serde_json::to_writer(&mut message, failure).is_ok() {
        let _ = rustix::io::write(sync, &message);
    }
}

fn set_up_and_execute(plan: &Plan, streams: &Streams, budget: hook::Budget) -> Result<(), Failure> {
    let step = "starting init";
    die_with_supervisor(streams.sync.as_fd()).during(step)?;
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().in_call(|| "setsid()".into()).during(step)?;
    let mut setup = Setup::default();
    for (index, action) in plan.steps.iter().enumerate() {
        if matches!(action, Step::Restrict(_)) {
            let connected = if plan.terminal {
                setup.connect_terminal(streams.sync.as_fd())
            } else {
                setup.connect_streams(streams)
            };
            connected.during("connecting the standard streams")?;
        }
        match action {
            Step::Hook(hook) => {
                let result = match hook.place {
                    HookPlace::Host => hook_by_supervisor(streams.sync.as_fd(), index),
                    HookPlace::Container => hook::run_inside(hook, budget),
                };
                // Also one of the host may have begun something in here.
                result.and(sweep::end_others(plan)).during(action)?;
            }
            _ => setup.perform(action).during(action)?,
        }
    }
    if !plan.start_at_once {
        wait_for_start(streams.sync.as_fd()).during("waiting for the start")?;
    }
    // Changing credentials cleared the death signal, and the supervisor may have died before it was set again.
    die_with_supervisor(streams.sync.as_fd()).during(step)?;
    coracle_crash_point::crash_point!("init.before-execute");
    execute(&plan.program, setup.identity.as_ref(), streams.sync.as_fd())
}

/// Asks the kernel to kill us with our parent; if it is gone already, its end of the socket is too.
pub(crate) fn die_with_supervisor(sync: BorrowedFd<'_>) -> Result<(), CallError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .in_call(|| "prctl(PR_SET_PDEATHSIG)".into())?;
    let mut poll = [rustix::event::PollFd::new(&sync, rustix::event::PollFlags::HUP)];
    let now = rustix::event::Timespec::default();
    rustix::event::poll(&mut poll, Some(&now)).in_call(|| "poll(sync socket)".into())?;
    if poll[0].revents().contains(rustix::event::PollFlags::HUP) {
        sys::exit_now(127);
    }
    Ok(())
}

fn wait_for_start(sync: BorrowedFd<'_>) -> Result<(), CallError> {
    ask(sync, &[CREATED])
}

/// A supervisor whose hook fails does not answer: it ends us.
fn hook_by_supervisor(sync: BorrowedFd<'_>, step: usize) -> Result<(), CallError> {
    ask(sync, format!("{}{step}", char::from(HOOK)).as_bytes())
}

/// Sends a message and waits for the byte that answers it.
fn ask(sync: BorrowedFd<'_>, message: &[u8]) -> Result<(), CallError> {
    rustix::io::write(sync, message).in_call(|| "write(sync socket)".into())?;
    let mut answer = [0_u8; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(sync, &mut answer)) {
        // The supervisor is gone, so there is nothing to be init of.
        Ok(0) => sys::exit_now(127),
        result => result.in_call(|| "read(sync socket)".into()).map(drop),
    }
}

/// What the steps build up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) mounts: Mounts,
    pub(crate) identity: Option<Identity>,
}

impl Setup {
    /// One line per variant where possible; the plan's order is what matters.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<(), CallError> {
        match step {
            Step::OrdinaryOutOfMemoryScore => ordinary_out_of_memory_score(),
            Step::OutOfMemoryScore(score) => out_of_memory_score(*score),
            Step::TakeTree { source, recursive, shared } => self.mounts.take(source, *recursive, *shared),
            Step::HostDirectory(path) => host_directory(path),
            // "0" stands for the writer.
            Step::JoinCgroup(procs) => fs::write(procs, "0").in_call(|| format!("write({procs:?})")),
            Step::NewCgroupNamespace => unshare_cgroup(),
            Step::EnterNetwork(path) => enter_network(path),
            Step::LoopbackUp => loopback_up(),
            Step::HostName(name) => {
                rustix::system::sethostname(name.as_bytes()).in_call(|| format!("sethostname({name:?})"))
            }
            Step::PrivatePropagation => rustix::mount::mount_change(
                "/",
                rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
            )
            .in_call(|| "mount(\"/\", MS_REC|MS_PRIVATE)".into()),
            Step::MountOverlay { directory, options, target } => {
                self.mounts.overlay(directory, options, target)
            }
            Step::MountLayers { directory, options, target } => mount::layers(directory, options, target),
            Step::ResolveUser { user, group, additional_groups } => {
                let root = self.mounts.root()?;
                self.identity = Some(identity::resolve(root, user, group.as_deref(), additional_groups)?);
                Ok(())
            }
            Step::MountFilesystem { filesystem, options, attributes, target, plain_directory } => {
                self.mounts.filesystem(filesystem, options, *attributes, target, *plain_directory)
            }
            Step::Bind {
                source,
                target,
                recursive,
                attributes,
                optional,
                propagation,
                writable_below,
                subpath,
            } => self.mounts.bind(Bind {
                source,
                target,
                recursive: *recursive,
                attributes: *attributes,
                optional: *optional,
                propagation: *propagation,
                writable_below: *writable_below,
                subpath,
            }),
            Step::Device(node) => self.mounts.device(node),
            Step::HostDevice(device) => self.mounts.host_device(device),
            Step::Directory { path } => self.mounts.directory(path),
            Step::SymbolicLink { path, target } => self.mounts.symbolic_link(path, target),
            Step::KernelParameter { name, value } => self.mounts.kernel_parameter(name, value),
            Step::LabelRoot { path, label } => self.mounts.label_root(path, label),
            Step::Mask { path, label } => self.mounts.mask(path, label.as_deref()),
            Step::ReadOnlyPath(path) => self.mounts.read_only_path(path),
            Step::SealMount(path) => self.mounts.seal(path),
            // Only while the container is made.
            Step::Hook(_) => Err(CallError::refused(FailureKind::Other, "a hook is not for every process")),
            Step::PivotRoot => self.mounts.pivot(),
            Step::ReadOnlyRoot => self.mounts.seal("/"),
            Step::WorkingDirectory(path) => self.mounts.working_directory(path),
            Step::KeyLabel(label) => self.mounts.own_proc()?.key_label(label),
            Step::SessionKeyring(name) => session_keyring(name),
            Step::AppArmor(profile) => self.mounts.own_proc()?.apparmor(profile),
            Step::ProcessLabel(label) => self.mounts.own_proc()?.process_label(label),
            Step::DefaultResourceLimit(limit) => default_resource_limit(limit),
            Step::ResourceLimit(limit) => resource_limit(limit),
            Step::Restrict(credentials) => {
                let identity = self.identity.as_ref().ok_or_else(|| {
                    CallError::refused(
                        FailureKind::Other,
                        "the plan restricts privileges before looking up the user",
                    )
                })?;
                restrict::restrict(credentials, identity)
            }
        }
    }

    /// The program's own user may reopen its streams as /dev/stdout and /dev/stderr.
    fn connect_streams(&self, streams: &Streams) -> Result<(), CallError> {
        let null = self.mounts.open_null()?;
        self.connect(null.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd())
    }

    /// A new terminal becomes all three streams, and its other end goes to the supervisor.
    fn connect_terminal(&self, sync: BorrowedFd<'_>) -> Result<(), CallError> {
        let (master, slave) = self.mounts.open_terminal()?;
        sys::control_by(slave.as_fd()).in_call(|| "ioctl(TIOCSCTTY)".into())?;
        if let Some(identity) = &self.identity {
            rustix::fs::fchown(&slave, Some(Uid::from_raw(identity.user)), None)
                .in_call(|| "fchown(terminal)".into())?;
        }
        send_terminal(sync, master.as_fd()).in_call(|| "sendmsg(terminal)".into())?;
        rustix::stdio::dup2_stdin(&slave).in_call(|| "dup2(terminal, 0)".into())?;
        rustix::stdio::dup2_stdout(&slave).in_call(|| "dup2(terminal, 1)".into())?;
        rustix::stdio::dup2_stderr(&slave).in_call(|| "dup2(terminal, 2)".into())
    }

    /// Makes these the standard streams, of which the last two become the user's.
    pub(crate) fn connect(
        &self,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        errors: BorrowedFd<'_>,
    ) -> Result<(), CallError> {
        rustix::stdio::dup2_stdin(input).in_call(|| "dup2(null, 0)".into())?;
        if let Some(identity) = &self.identity {
            let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
            for pipe in [output, errors] {
                rustix::fs::fchown(pipe, Some(user), Some(group)).in_call(|| "fchown(output pipe)".into())?;
            }
        }
        rustix::stdio::dup2_stdout(output).in_call(|| "dup2(pipe, 1)".into())?;
        rustix::stdio::dup2_stderr(errors).in_call(|| "dup2(pipe, 2)".into())
    }
}

fn unshare_cgroup() -> Result<(), CallError> {
    sys::unshare(libc::CLONE_NEWCGROUP).in_call(|| "unshare(CLONE_NEWCGROUP)".into())
}

/// Raising the score needs no capability; only lowering a raised one does (proc_pid_oom_score_adj(5)).
fn ordinary_out_of_memory_score() -> Result<(), CallError> {
    match fs::write("/proc/self/oom_score_adj", "0") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        result => result.in_call(|| "write(\"/proc/self/oom_score_adj\")".into()),
    }
}

/// Only lowering a score needs a capability.
fn out_of_memory_score(score: i32) -> Result<(), CallError> {
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(CallError::refused(
            FailureKind::Unsupported,
            format!(
                "oom-score-adj {score} cannot be set on this node, whose daemon lacks CAP_SYS_RESOURCE; use a value of 0 or \
                 more"
            ),
        )),
        result => result.in_call(|| "write(\"/proc/self/oom_score_adj\")".into()),
    }
}

fn host_directory(path: &std::path::Path) -> Result<(), CallError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).in_call(|| format!("mkdir({path:?})"))
}

fn send_terminal(sync: BorrowedFd<'_>, master: BorrowedFd<'_>) -> rustix::io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(sync, &[std::io::IoSlice::new(&[TERMINAL])], &mut control, SendFlags::empty()).map(drop)
}

fn resource_limit(limit: &ResourceLimit) -> Result<(), CallError> {
    match sys::set_resource_limit(limit.resource, limit.soft, limit.hard) {
        Err(Errno::PERM) => {
            let most = sys::hard_resource_limit(limit.resource).unwrap_or(0);
            Err(CallError::refused(
                FailureKind::Unsupported,
                format!("ulimit {}:{} is above this node's hard limit of {most}", limit.soft, limit.hard),
            ))
        }
        result => result.in_call(|| format!("prlimit({}, {}:{})", limit.resource, limit.soft, limit.hard)),
    }
}

/// Raising the hard limit needs CAP_SYS_RESOURCE; without it what there is has to do.
fn default_resource_limit(limit: &ResourceLimit) -> Result<(), CallError> {
    let set = |soft, hard| sys::set_resource_limit(limit.resource, soft, hard);
    let result = match set(limit.soft, limit.hard) {
        Err(Errno::PERM) => sys::hard_resource_limit(limit.resource)
            .and_then(|hard| set(limit.soft.min(hard), limit.hard.min(hard))),
        result => result,
    };
    result.in_call(|| format!("prlimit({}, {}:{})", limit.resource, limit.soft, limit.hard))
}

fn enter_network(path: &std::path::Path) -> Result<(), CallError> {
    let namespace = fs::File::open(path).in_call(|| format!("open({path:?})"))?;
    rustix::thread::move_into_link_name_space(
        namespace.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .in_call(|| format!("setns({path:?}, CLONE_NEWNET)"))
}

fn loopback_up() -> Result<(), CallError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .in_call(|| "socket(AF_INET)".into())?;
    sys::loopback_up(socket.as_fd()).in_call(|| "ioctl(SIOCSIFFLAGS, \"lo\")".into())
}

fn session_keyring(name: &str) -> Result<(), CallError> {
    let name = c_string(name)?;
    match sys::join_session_keyring(&name) {
        // A kernel without keys has none to share.
        Err(Errno::NOSYS) => Ok(()),
        result => result.in_call(|| format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})")),
    }
}

pub(crate) fn c_string(text: &str) -> Result<CString, CallError> {
    CString::new(text)
        .map_err(|_| CallError::refused(FailureKind::Other, format!("{text:?} contains a NUL byte")))
}

pub(crate) fn c_strings(texts: &[String]) -> Result<Vec<CString>, CallError> {
    texts.iter().map(|text| c_string(text)).collect()
}

/// Becomes the program; returns only when that failed.
pub(crate) fn execute(
    program: &Program,
    identity: Option<&Identity>,
    sync: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let name = program.arguments.first().map_or("", String::as_str);
    let step = format!("executing {name:?}");
    let arguments = c_strings(&program.arguments).during(&step)?;
    let mut environment = c_strings(&program.environment).during(&step)?;
    if !program.environment.iter().any(|entry| entry.starts_with("HOME=")) {
        let home = identity.map_or("/", |identity| identity.home.as_str());
        environment.push(c_string(&format!("HOME={home}")).during(&step)?);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::close_descriptors_on_exec().in_call(|| "close_range(3, CLOEXEC)".into()).during(&step)?;
    rustix::io::write(sync, &[EXECUTING]).in_call(|| "write(sync socket)".into()).during(&step)?;
    if program.reaper {
        reaper::split().during(&step)?;
    }
    sys::reset_signals();
    Err(attempt(&candidates(program, name), &arguments, &environment)).during(&step)
}

/// Tries each place; what counts in the end is the most telling error, as in execvp(3).
fn attempt(paths: &[String], arguments: &[CString], environment: &[CString]) -> CallError {
    let mut worst: Option<(String, Errno)> = None;
    for path in paths {
        let Ok(c_path) = CString::new(path.as_str()) else { continue };
        let errno = sys::execute(&c_path, arguments, environment);
        let absent = matches!(errno, Errno::NOENT | Errno::NOTDIR);
        if worst.is_none() || !absent {
            worst = Some((path.clone(), errno));
        }
        if !absent && errno != Errno::ACCESS {
            break;
        }
    }
    match worst {
        Some((path, errno)) => CallError {
            call: format!("execve({path:?})"),
            errno: errno.raw_os_error(),
            kind: match errno {
                Errno::NOENT | Errno::NOTDIR => FailureKind::ProgramNotFound,
                _ => FailureKind::ProgramNotExecutable,
            },
        },
        None => CallError::refused(FailureKind::ProgramNotFound, "no directory in PATH to look in"),
    }
}

/// A name with a slash is a path; others are looked up in the PATH of the program, inside the container.
fn candidates(program: &Program, name: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path =
        program.environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| format!("{directory}/{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_in_their_own_path() {
        let mut program = Program {
            arguments: vec!["sh".into()],
            environment: vec!["PATH=/usr/bin::/bin".into()],
            reaper: false,
        };
        assert_eq!(candidates(&program, "sh"), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(candidates(&program, "./sh"), ["./sh"]);
        program.environment.clear();
        assert!(candidates(&program, "sh").is_empty());
    }
}
