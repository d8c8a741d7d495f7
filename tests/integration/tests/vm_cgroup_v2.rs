//! On Debian 12's kernel with version 2 of cgroups, in a virtual machine.
//!
//! What is looked at is written in the scenarios, scripts in the folder of the same name.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use coracle_integration::vm::console::Results;
use coracle_integration::vm::{self, Machine, disk};
use coracle_integration::{harness, image};

/// Runs a test with a folder of its own, which is kept when it fails.
fn test(name: &str, check: impl FnOnce(&Path) -> Result<()>) {
    if let Some(reason) = vm::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = harness::target().join("vm").join(name);
    // From an earlier failure.
    let _ = std::fs::remove_dir_all(&folder);
    match check(&folder) {
        // A leftover folder is only untidy.
        Ok(()) => drop(std::fs::remove_dir_all(&folder)),
        Err(error) => panic!("{name}: {error:#}"),
    }
}

/// Goal: the machine is what the other tests take it for.
#[test]
fn the_machine_has_what_containers_need() {
    test("machine", |folder| {
        let disk = folder.join("disk");
        std::fs::create_dir_all(folder)?;
        disk::create(&disk, 64)?;
        let machine = Machine::new(folder, include_str!("vm_cgroup_v2/machine.sh"))?.with_disk(&disk);
        let results = machine.start("machine")?.finish(vm::PATIENCE)?;
        assert_eq!(results.passed().count(), 8, "{results:?}");
        disk::check(&disk)
    });
}

/// A machine with the product and the responder's image.
fn with_product(folder: &Path, scenario: &str) -> Result<Machine> {
    let responder = image::responder_binary()?;
    Machine::new(folder, &format!("{}\n{scenario}", include_str!("vm_cgroup_v2/product.sh")))?
        .with_program("/bin/coracle", &harness::built("CORACLE_BIN", "coracle")?)?
        .with_file("/payload/responder.tar", &image::saved_archive(&responder, image::RESPONDER)?)
}

/// Goal: limits, isolation and cleaning up with version 2 of cgroups.
#[test]
fn a_service_is_limited_isolated_and_leaves_nothing() {
    test("service", |folder| {
        let machine = with_product(folder, include_str!("vm_cgroup_v2/service.sh"))?;
        let results = machine.start("service")?.finish(vm::PATIENCE)?;
        says_all(&results, &["memory_max", "out_of_memory", "devices_denied", "overlay", "no_cgroup_left"])
    });
}

/// Goal: an acknowledged service survives a loss of power right after the acknowledgement, and its tasks run again; also
/// after another loss of power while they run.
#[test]
fn an_acknowledged_service_survives_a_loss_of_power() {
    test("power", |folder| {
        std::fs::create_dir_all(folder)?;
        let disk = folder.join("disk");
        disk::create(&disk, 1024)?;
        let start = |name: &str, scenario: &str| with_product(folder, scenario)?.with_disk(&disk).start(name);
        for (name, scenario, last) in [
            ("first", include_str!("vm_cgroup_v2/acknowledge.sh"), "acknowledged"),
            ("second", include_str!("vm_cgroup_v2/return.sh"), "tasks_run"),
        ] {
            let mut emulator = start(name, scenario)?;
            emulator.wait_for(last, vm::PATIENCE)?;
            emulator.lose_power()?;
        }
        let results = start("third", include_str!("vm_cgroup_v2/return.sh"))?.finish(vm::PATIENCE)?;
        says_all(&results, &["service_is_there", "tasks_run", "exactly_two"])
    });
}

/// All test programs of the runtime.
const SUITES: &[&str] = &["isolation", "lifecycle", "exec", "hooks", "mounts", "vocabulary"];

/// Goal: the runtime's own tests pass on this kernel too.
#[test]
fn the_tests_of_the_runtime_pass() {
    test("runtime", |folder| {
        let mut machine = Machine::new(folder, include_str!("vm_cgroup_v2/runtime.sh"))?;
        for name in SUITES {
            let Some(program) = test_program(&format!("agent-runtime/tests/{name}.rs"))? else {
                println!(
                    "SKIPPED: the test {name} of the runtime is not built (cargo test -p coracle-agent-runtime)"
                );
                return Ok(());
            };
            machine = machine.with_program(&format!("/payload/{name}"), &program)?;
        }
        let results = machine.start("runtime")?.finish(vm::PATIENCE)?;
        says_all(&results, SUITES)
    });
}

fn says_all(results: &Results, names: &[&str]) -> Result<()> {
    let missing: Vec<_> = names.iter().filter(|name| results.get(name).is_none()).collect();
    anyhow::ensure!(missing.is_empty(), "the scenario said nothing of {missing:?}");
    Ok(())
}

/// The newest test program that was made of a source: cargo writes what a program is made of into a file next to it.
fn test_program(source: &str) -> Result<Option<PathBuf>> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("the folder of this program")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let description = entry?.path();
        let program = description.with_extension("");
        if description.extension().is_none_or(|extension| extension != "d") || !program.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&description)?;
        let made_of =
            text.split_whitespace().any(|path| path == source || path.ends_with(&format!("/{source}")));
        // The metadata of a check without a program names the same source.
        if made_of && program.extension().is_none() {
            found.push((program.metadata()?.modified()?, program));
        }
    }
    Ok(found.into_iter().max().map(|(_, program)| program))
}
