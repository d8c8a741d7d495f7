//! What every container gets: devices, links, masked paths.

/// Search path of a program that brings none.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// OCI runtime specification, default devices.
pub(super) const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// OCI runtime specification, dev symbolic links; `ptmx` is the one of the container's own devpts.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Hidden: they tell about the host or its other tenants (with Docker's additions after GHSA-6fw5-f8r9-fgfm and
/// GHSA-jq35-85cj-fj4p).
pub(super) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Size of /dev/shm, Docker's.
pub(super) const SHARED_MEMORY: &str = "65536k";

/// Soft and hard limit on open files, as Docker has had for long; programs that walk through all possible descriptors
/// take a while with more.
pub(super) const OPEN_FILES: u64 = 1 << 20;

/// Limits of a container that asks for none, by Docker's names. The daemon's own are raised or lowered for itself.
pub(super) const RESOURCE_LIMITS: &[(&str, u64)] = &[("core", u64::MAX), ("nofile", OPEN_FILES)];

/// Writing there would change the host.
pub(super) const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Docker's defaults since 20.10 for a network namespace of its own.
pub(super) const NETWORK_PARAMETERS: &[(&str, &str)] =
    &[("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
