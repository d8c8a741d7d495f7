//! SELinux labels of containers, on Debian 12's kernel in a virtual machine with a policy of our own.
//!
//! What is looked at is written in the scenario, a script in the folder of the same name, beside the policy.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use coracle_integration::vm::{self, Machine};
use coracle_integration::{harness, image, process};

/// Compiles policies; Debian's package has the same name.
const COMPILER: &str = "secilc";
/// The newest format that the kernel of the machine reads is 33; this one is read by all that run containers.
const FORMAT: &str = "31";
/// Categories that levels are made of.
const CATEGORIES: u32 = 1024;
/// The kernel's own subjects and objects, in the order of their numbers (kernel: security/selinux/include/initial_sid_to_string.h).
const INITIAL: &str = "kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet \
    icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev \
    kmod policy scmp_packet devnull";

/// The policy as the kernel loads it.
fn policy(folder: &Path) -> Result<Vec<u8>> {
    let (mut categories, mut initial) = (String::new(), String::new());
    for number in 0..CATEGORIES {
        writeln!(categories, "(category c{number})")?;
    }
    let names: Vec<String> = (0..CATEGORIES).map(|number| format!("c{number}")).collect();
    writeln!(categories, "(categoryorder ({}))", names.join(" "))?;
    for name in INITIAL.split_whitespace() {
        writeln!(initial, "(sid {name})\n(sidcontext {name} of_base)")?;
    }
    writeln!(initial, "(sidorder ({INITIAL}))")?;
    let text = include_str!("vm_selinux/policy.cil");
    let source = folder.join("policy.cil");
    std::fs::write(&source, text.replace("@CATEGORIES@", &categories).replace("@SIDS@", &initial))?;
    let compiled: PathBuf = folder.join("policy");
    let mut command = Command::new(COMPILER);
    command.args(["-c", FORMAT, "-f", "/dev/null", "-o"]).arg(&compiled).arg(&source);
    process::output(&mut command)?;
    std::fs::read(&compiled).with_context(|| format!("read {}", compiled.display()))
}

fn check(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let busybox = Path::new("/bin/busybox");
    let scenario = [include_str!("vm_cgroup_v2/product.sh"), include_str!("vm_selinux/labels.sh")];
    let machine = Machine::new(folder, &scenario.join("\n"))?
        .with_program("/bin/coracle", &harness::built("CORACLE_BIN", "coracle")?)?
        .with_file("/payload/shell.tar", &image::shell_archive(busybox, "shell:1")?)?
        .with_file("/payload/policy", &policy(folder)?)?
        .with_kernel_parameters("security=selinux");
    let results = machine.start("labels")?.finish(vm::PATIENCE)?;
    let last =
        ["denied_by_level", "denied_by_type", "health_check_has_the_label", "unknown_type_is_rejected"];
    let missing: Vec<_> = last.iter().filter(|name| results.get(name).is_none()).collect();
    ensure!(missing.is_empty(), "the scenario said nothing of {missing:?}");
    Ok(())
}

/// Goal: containers have the labels that their services ask for, the policy holds for them, and what is theirs is theirs alone.
#[test]
fn labels_confine_containers() {
    let compiler = (!process::has_program(COMPILER))
        .then(|| format!("policies need {COMPILER}, Debian package {COMPILER}"));
    if let Some(reason) = vm::missing().or(compiler) {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = harness::target().join("vm").join("selinux");
    // From an earlier failure.
    let _ = std::fs::remove_dir_all(&folder);
    match check(&folder) {
        // A leftover folder is only untidy.
        Ok(()) => drop(std::fs::remove_dir_all(&folder)),
        Err(error) => panic!("{error:#}"),
    }
}
