//! The lab without the product: hosts reach each other, cuts cut, healing heals, and nothing is left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coracle_integration::lab::{Lab, Plan};
use coracle_integration::name::{M1, M2, Name, W1};
use coracle_integration::{cgroup, harness, process};

/// Whether a datagram from one host arrives at the other.
fn reaches(lab: &Lab, from: Name, to: Name) -> bool {
    let host = |name| lab.get(name).unwrap().host().unwrap();
    let receiver = host(to).in_network(|| Ok(UdpSocket::bind((to.address(), 4000))?)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // A send that finds no neighbour fails only later, or not at all: what counts is what arrives.
    let send = || Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(b"here", (to.address(), 4000)));
    let _ = host(from).in_network(send).unwrap();
    receiver.recv(&mut [0; 8]).is_ok()
}

/// What is sent once may be lost while neighbours find each other, or come late on a machine that is busy.
fn comes_to_reach(lab: &Lab, from: Name, to: Name) -> bool {
    process::wait(Duration::from_secs(10), || reaches(lab, from, to).then_some(())).is_some()
}

#[test]
fn cuts_cut_and_healing_heals() {
    if let Some(reason) = harness::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = harness::folder().join("lab_itself");
    let mut lab = Lab::new(Plan::bound(&folder, Path::new("/bin/true"))).unwrap();
    for name in [M1, M2, W1] {
        lab.add_host(name).unwrap();
    }
    let init = lab.get(M1).unwrap().host().unwrap().init();
    assert_eq!(lab.get(M2).unwrap().host().unwrap().run(["hostname"]).unwrap().trim(), "m2");
    assert!(comes_to_reach(&lab, M1, M2) && comes_to_reach(&lab, W1, M1), "a segment without faults");

    lab.cut(M1, &[M2]).unwrap();
    assert!(!reaches(&lab, M1, M2) && !reaches(&lab, M2, M1), "a pair that is cut");
    assert!(comes_to_reach(&lab, M1, W1), "the others are not");
    lab.heal(M1).unwrap();
    assert!(comes_to_reach(&lab, M1, M2), "healed");

    lab.isolate(M1).unwrap();
    assert!(!reaches(&lab, M1, M2) && !reaches(&lab, M1, W1), "a cable that is pulled");
    lab.heal(M1).unwrap();
    assert!(comes_to_reach(&lab, M1, M2), "and put back");

    lab.cut_one_way(M1, M2).unwrap();
    assert!(!reaches(&lab, M1, M2) && comes_to_reach(&lab, M2, M1), "one way only");
    lab.heal(M2).unwrap();
    assert!(comes_to_reach(&lab, M1, M2), "a cut heals from either side");

    // What a container would leave: a process in a cgroup of the node, in whatever hierarchy takes it.
    let parent = lab.get(M1).unwrap().cgroup_parent().to_owned();
    let pids = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| Path::new(path).join("cgroup.procs").exists());
    let group = Path::new(pids.unwrap()).join(&parent).join("container");
    std::fs::create_dir_all(&group).unwrap();
    let mut sleeper = Command::new("sleep").arg("100").spawn().unwrap();
    std::fs::write(group.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    assert_eq!(cgroup::processes(&parent).len(), 1);

    lab.power_off(M1).unwrap();
    assert!(!init.is_alive() && !group.exists(), "nothing is left of a host without power");
    assert!(!sleeper.wait().unwrap().success());
    assert!(comes_to_reach(&lab, M2, W1), "the other hosts go on");
    lab.power_on_host(M1).unwrap();
    assert!(comes_to_reach(&lab, M1, M2) && comes_to_reach(&lab, M2, M1), "and it comes back");
    lab.end().unwrap();
    let left = Command::new("ip").args(["link", "show"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("br0"), "the machine's own network is untouched");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_lab_that_was_left_is_taken_up_again() {
    if let Some(reason) = harness::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = harness::folder().join("lab_left");
    let mut plan = Plan::bound(&folder, Path::new("/bin/true"));
    plan.bound = false;
    let mut lab = Lab::new(plan).unwrap();
    lab.add_host(M1).unwrap();
    let init = lab.get(M1).unwrap().host().unwrap().init();
    lab.leave().unwrap();
    assert!(init.is_alive());
    let lab = Lab::adopt(&folder).unwrap().unwrap();
    assert_eq!(lab.get(M1).unwrap().host().unwrap().run(["hostname"]).unwrap().trim(), "m1");
    lab.end().unwrap();
    assert!(!init.is_alive());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn daemons_are_found_paused_and_killed() {
    if let Some(reason) = harness::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let folder = harness::folder().join("lab_daemons");
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let program = harness::folder().join("lab_daemons_program");
    std::fs::write(&program, "#!/bin/sh\necho begins with \"$@\"\nexec tail -f /dev/null\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut lab = Lab::new(Plan::bound(&folder, &program)).unwrap();
    lab.add_host(M1).unwrap();
    let node = lab.node(M1);
    node.start_daemon().unwrap();
    let daemon = node.daemon().unwrap();
    assert!(
        process::wait(Duration::from_secs(10), || node.log().contains("begins with daemon").then_some(()))
            .is_some()
    );
    assert!(node.log().contains("--cgroup-parent coracle-lab-"));
    assert!(node.other_processes().unwrap().is_empty());
    assert!(node.start_daemon().is_err(), "it runs already");
    node.pause_daemon().unwrap();
    let state = || process::Stat::of(daemon.pid).unwrap().state;
    assert!(process::wait(Duration::from_secs(10), || (state() == 'T').then_some(())).is_some());
    node.resume_daemon().unwrap();
    assert!(process::wait(Duration::from_secs(10), || (state() != 'T').then_some(())).is_some());
    node.kill_daemon().unwrap();
    assert!(node.daemon().is_none() && !daemon.is_alive());
    node.start_daemon().unwrap();
    assert_ne!(node.daemon(), Some(daemon));
    node.stop_daemon().unwrap();
    lab.end().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(&program).unwrap();
}
