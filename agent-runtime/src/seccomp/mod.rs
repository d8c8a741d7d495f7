//! The default system call filter: an allow-list in the spirit of Docker's.
//!
//! Calls that are not on it fail with EPERM; `clone3`, whose arguments a filter cannot see, with ENOSYS, so that the C
//! library falls back to `clone`, which may not make namespaces. Other instruction sets than the native one would be
//! a way around the numbers compared here, so using them ends the process.

mod compile;
mod names;
mod profile;
mod syscalls;

use crate::capability::Capabilities;
use crate::error::RuntimeError;
use compile::{Action, Filter};

/// `SECCOMP_RET_ERRNO` with this error number.
const fn fail(errno: i32) -> Action {
    Action::Return(0x0005_0000 | errno.cast_unsigned())
}

/// Namespace flags of clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u32 = 0x7e02_0000;
/// Address families that containers have no use for and that had exploitable bugs: AF_RXRPC, AF_ALG, AF_VSOCK.
const REFUSED_FAMILIES: &[u32] = &[33, 38, 40];
/// Linux, UNAME26, ADDR_NO_RANDOMIZE and asking for the current one.
const PERSONALITIES: &[u32] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter for a container with these capabilities, as hexadecimal digits of its instructions.
pub(crate) fn default_filter(capabilities: Capabilities) -> String {
    encode(&policy(capabilities))
}

/// The filter of a profile that an operator wrote, for a container with these capabilities.
pub(crate) fn custom_filter(profile: &str, capabilities: Capabilities) -> Result<String, RuntimeError> {
    profile::parse(profile, capabilities).map(|filter| encode(&filter)).map_err(|why| {
        RuntimeError::InvalidSpec { field: "seccomp profile", value: profile.chars().take(40).collect(), why }
    })
}

fn encode(filter: &Filter) -> String {
    let instructions = filter.compile(syscalls::NATIVE_ARCHITECTURE, cfg!(target_arch = "x86_64"));
    let mut digits = String::with_capacity(instructions.len() * 16);
    for instruction in &instructions {
        for byte in instruction.bytes() {
            digits.push_str(&format!("{byte:02x}"));
        }
    }
    digits
}

fn policy(capabilities: Capabilities) -> Filter {
    let mut filter = Filter::new(fail(libc::EPERM));
    filter.set_all(syscalls::ALWAYS, Action::ALLOW);
    filter.set(libc::SYS_clone3, fail(libc::ENOSYS));
    filter.set(libc::SYS_clone, Action::AllowUnlessBits { argument: 0, bits: NAMESPACES });
    filter.set(libc::SYS_socket, Action::AllowUnlessOneOf { argument: 0, values: REFUSED_FAMILIES });
    filter.set(libc::SYS_personality, Action::AllowIfOneOf { argument: 0, values: PERSONALITIES });
    for (capability, calls) in syscalls::BY_CAPABILITY {
        if capabilities.has(capability) {
            filter.set_all(calls, Action::ALLOW);
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::compile::{KILL, evaluate};
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    fn verdict(call: libc::c_long, arguments: [u64; 6]) -> u32 {
        let program = policy(Capabilities::container_default())
            .compile(syscalls::NATIVE_ARCHITECTURE, cfg!(target_arch = "x86_64"));
        evaluate(&program, syscalls::NATIVE_ARCHITECTURE, u32::try_from(call).unwrap(), arguments)
    }

    #[test]
    fn verdicts() {
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_futex, libc::SYS_openat, libc::SYS_chroot] {
            assert_eq!(verdict(call, [0; 6]), ALLOW, "{call}");
        }
        for call in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_pivot_root,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_settimeofday,
            libc::SYS_swapon,
            libc::SYS_syslog,
        ] {
            assert_eq!(verdict(call, [0; 6]), EPERM, "{call}");
        }
        assert_eq!(verdict(libc::SYS_clone3, [0; 6]), ENOSYS);
        assert_eq!(verdict(100_000, [0; 6]), EPERM);
    }

    #[test]
    fn arguments_count() {
        let with = |call, first| verdict(call, [first, 0, 0, 0, 0, 0]);
        assert_eq!(with(libc::SYS_clone, 0x0120_0011), ALLOW);
        assert_eq!(with(libc::SYS_clone, 0x1000_0011), EPERM);
        for family in [1, 2, 10, 16, 17] {
            assert_eq!(with(libc::SYS_socket, family), ALLOW, "{family}");
        }
        for family in [33, 38, 40] {
            assert_eq!(with(libc::SYS_socket, family), EPERM, "{family}");
            // The kernel takes an int, so the upper half must not hide the family.
            assert_eq!(with(libc::SYS_socket, family | 1 << 32), EPERM, "{family}");
        }
        assert_eq!(with(libc::SYS_personality, 0x8), ALLOW);
        assert_eq!(with(libc::SYS_personality, 0x4_0000), EPERM);
    }

    #[test]
    fn foreign_instruction_sets_end_the_process() {
        let program = policy(Capabilities::container_default())
            .compile(syscalls::NATIVE_ARCHITECTURE, cfg!(target_arch = "x86_64"));
        assert_eq!(evaluate(&program, 0x4000_0003, 1, [0; 6]), KILL);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(evaluate(&program, syscalls::NATIVE_ARCHITECTURE, 0x4000_0000, [0; 6]), ENOSYS);
        }
        assert!(program.len() < 1000, "{} instructions", program.len());
    }

    #[test]
    fn capabilities_open_their_calls() {
        let admin = Capabilities::none().with(["SYS_ADMIN"]).unwrap();
        let program = policy(admin).compile(syscalls::NATIVE_ARCHITECTURE, false);
        let mount = u32::try_from(libc::SYS_mount).unwrap();
        assert_eq!(evaluate(&program, syscalls::NATIVE_ARCHITECTURE, mount, [0; 6]), ALLOW);
    }
}
