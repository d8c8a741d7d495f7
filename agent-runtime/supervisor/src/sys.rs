//! Calls that no safe wrapper exists for. All unsafe code of the supervisor is here.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};

/// The last error of this thread.
fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

/// Closes everything above standard error: a descriptor that some library of the daemon forgot to mark
/// close-on-exec ends here (CVE-2024-21626).
pub(crate) fn close_inherited_descriptors() {
    // SAFETY: called first in main, before anything in this process owns a descriptor above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Marks everything above standard error close-on-exec.
pub(crate) fn close_descriptors_on_exec() -> Result<()> {
    // SAFETY: changes only a flag of descriptors; none is closed while in use.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Signals from terminals, service managers and broken pipes must not end a supervisor.
pub(crate) fn ignore_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is a valid disposition and no handler of ours is replaced.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Gives every signal its default action and unblocks all, as a program expects at its start.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; numbers that cannot be set are refused by the kernel. The raw
        // call is used because the C library keeps its two internal signals from being set.
        unsafe {
            let action: [usize; 4] = [libc::SIG_DFL, 0, 0, 0];
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<usize>(),
                8_usize,
            );
        }
    }
    // SAFETY: `none` is a complete kernel signal set of eight bytes that lives through the call.
    unsafe {
        let none = 0_u64;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null::<u64>(),
            8_usize,
        );
    }
}

/// Blocks all signals, so that a reaper can take them one by one.
pub(crate) fn block_signals() {
    // SAFETY: `all` is a complete kernel signal set of eight bytes that lives through the call.
    unsafe {
        let all = u64::MAX;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null::<u64>(),
            8_usize,
        );
    }
}

/// Takes one pending signal, waiting for it.
pub(crate) fn wait_for_signal() -> Result<i32> {
    let all = u64::MAX;
    // SAFETY: the set is eight bytes as the size says; null asks for no details and no time limit.
    let number = check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            std::ptr::null::<libc::siginfo_t>(),
            std::ptr::null::<libc::timespec>(),
            8_usize,
        )
    })?;
    Ok(i32::try_from(number).unwrap_or(0))
}

/// Sends a signal by number; `process` may be any kill(2) target.
pub(crate) fn kill(process: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes two integers.
    check(libc::c_long::from(unsafe { libc::kill(process, signal) })).map(drop)
}

/// Sends a signal by number through a process descriptor.
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the descriptor is open for the call; null asks for the details that kill(2) would give.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    })
    .map(drop)
}

/// What both sides of [`clone_init`] are.
pub(crate) enum Cloned {
    Child,
    Parent { pid: i32, descriptor: OwnedFd },
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) like fork, into new namespaces and on cgroup v2 into `cgroup`.
///
/// The child is a full copy: this program has one thread, so its heap and locks are in a consistent state.
pub(crate) fn clone_init(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut descriptor: i32 = -1;
    let mut arguments = CloneArguments {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut descriptor as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: `arguments` has the layout and size of struct clone_args (88 bytes, linux/sched.h) and lives through
    // the call; `pidfd` points at a live i32. No CLONE_VM and no stack: the child continues on a copy of this one.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).map_err(|_| Errno::RANGE)?, descriptor })
}

/// Process id of any child that ended, as `options` (waitid(2)) say; none if there is none.
pub(crate) fn ended_child(options: u32) -> Option<i32> {
    // SAFETY: all-zero is a valid siginfo_t, which lives through the call.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(libc::P_ALL, 0, &raw mut information, options.cast_signed());
        let pid = information.si_pid();
        (result == 0 && pid > 0).then_some(pid)
    }
}

/// Closes every descriptor above standard error but these, whoever owns them. Only for a new process that uses no other
/// one and never returns to code that would drop one.
pub(crate) fn close_all_but(kept: [BorrowedFd<'_>; 2]) {
    let mut kept = kept.map(|descriptor| descriptor.as_raw_fd().cast_unsigned());
    kept.sort_unstable();
    let mut from = 3_u32;
    for kept in kept {
        if from < kept {
            // SAFETY: as the function says, nobody uses these any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, kept - 1, 0_u32) };
        }
        from = kept + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, 0_u32) };
}

/// fork(2) for the reaper's child. Returns 0 in the child.
pub(crate) fn fork() -> Result<i32> {
    // SAFETY: this program has one thread, so the child may go on like the parent.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    i32::try_from(pid).map_err(|_| Errno::RANGE)
}

#[repr(C)]
#[derive(Default)]
struct MountAttribute {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// mount_setattr(2): sets attributes on the mount that `mount` refers to, and the mounts below if `recursive`.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> Result<()> {
    mount_setattr(mount, recursive, &MountAttribute { set: attributes, ..MountAttribute::default() })
}

/// mount_setattr(2): how mounts propagate (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`).
pub(crate) fn set_propagation(mount: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<()> {
    mount_setattr(mount, recursive, &MountAttribute { propagation, ..MountAttribute::default() })
}

fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attribute: &MountAttribute) -> Result<()> {
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attribute` has the layout of struct mount_attr (32 bytes, linux/mount.h) and lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attribute),
            size_of::<MountAttribute>(),
        )
    })
    .map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: `name` is a terminated string that lives through the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}

/// Makes orphans below this process its children.
pub(crate) fn set_child_subreaper() -> Result<()> {
    // SAFETY: takes integers only.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })).map(drop)
}

/// Sets the name that process listings show.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: `name` is a terminated string that lives through the call; a failure has no consequence.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Removes a capability from the bounding set. `Err(INVAL)` means that the kernel has no such capability.
pub(crate) fn drop_from_bounding_set(capability: u32) -> Result<()> {
    // SAFETY: takes integers only.
    check(libc::c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })).map(drop)
}

/// Sets permitted and effective capabilities to `mask`, and inheritable ones to none.
pub(crate) fn set_capabilities(mask: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let (low, high) = ((mask & 0xffff_ffff) as u32, (mask >> 32) as u32);
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted, inheritable; low words first (linux/capability.h).
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and two data records have the version 3 layout and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Installs a seccomp filter given as the bytes of `struct sock_filter` instructions.
pub(crate) fn install_seccomp(filter: &[u8]) -> Result<()> {
    const INSTRUCTION: usize = size_of::<libc::sock_filter>();
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(INSTRUCTION)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `len` instructions that live through the call; the kernel copies and checks them.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program)
    })
    .map(drop)
}

/// Sets a resource limit by its number.
pub(crate) fn set_resource_limit(resource: i32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: pid 0 is this process; `limit` lives through the call and null asks for no old value.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<libc::rlimit64>())
    })
    .map(drop)
}

/// The hard limit of this process on a resource, by its number; `u64::MAX` is no limit.
pub(crate) fn hard_resource_limit(resource: i32) -> Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: pid 0 is this process; null sets nothing, and `limit` is a live struct for the old value.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok(limit.rlim_max)
}

/// Brings the loopback device of the current network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; libc::IFNAMSIZ],
        flags: i16,
        padding: [u8; 22],
    }
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: 0, padding: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    request.flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: `request` has the layout and size of struct ifreq (40 bytes on 64-bit) and lives through the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    }))
    .map(drop)
}

/// execve(2). Returns only on failure.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with null and, like the strings they point at, live through the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Ends the process at once, without running anything that belongs to the parent's copy.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor but standard input.
pub(crate) fn close_all_but_input() {
    // SAFETY: called only by process 1 of a container, which uses no descriptor from then on.
    unsafe { libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32) };
}

/// Unlocks the slave of a terminal and opens it (ioctl_tty(2), TIOCSPTLCK and TIOCGPTPEER).
pub(crate) fn unlocked_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlock = 0_i32;
    // SAFETY: the request reads one int, which lives through the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock)
    }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes an integer.
    let peer =
        check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) }))?;
    let peer = i32::try_from(peer).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(peer) })
}

/// Makes a terminal the controlling one of this session (ioctl_tty(2), TIOCSCTTY).
pub(crate) fn control_by(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes an integer.
    check(libc::c_long::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) })).map(drop)
}

/// unshare(2). Only for namespaces: this process shares nothing with a thread.
pub(crate) fn unshare(namespaces: i32) -> Result<()> {
    // SAFETY: takes an integer; CLONE_FILES, which could make descriptors of threads differ, is never passed.
    check(libc::c_long::from(unsafe { libc::unshare(namespaces) })).map(drop)
}
