//! Crashes of a node that is alone.

use anyhow::{Context as _, Result, ensure};
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name};
use coracle_integration::process;

use crate::drive::{
    REACHED, add_host, is_reached, recover, runs, start_armed, wait_answers_or_dies, was_killed_there,
    work_until_killed,
};
use crate::invariants::{Running, images_are_whole, nothing_left_over, running_on, undisturbed};
use crate::table::{self, Group, Point};
use crate::work::Work;

/// First starts and new swarms: each on a new host.
pub(crate) fn births(lab: &mut Lab) -> Result<()> {
    for (number, point) in (1..).zip(table::of(Group::Birth)) {
        let name = Name::Manager(number);
        add_host(lab, name)?;
        birth(lab, name, point).with_context(|| format!("crash at {}", point.name))?;
        lab.power_off(name)?;
    }
    Ok(())
}

fn birth(lab: &mut Lab, name: Name, point: Point) -> Result<()> {
    let init = format!("swarm init --advertise-addr {}", name.address());
    start_armed(lab, name, point)?;
    wait_answers_or_dies(lab, name)?;
    work_until_killed(lab, name, point, |lab| lab.cli(name, &init).ok().map(drop))?;
    recover(lab, name)?;
    // It is a member, or it is not and can become one.
    if lab.info(name)?.state != "active" {
        lab.cli(name, &init).ok()?;
    }
    let ready = |view: &coracle_integration::view::View| view.ready() == 1 && view.nodes.len() == 1;
    lab.eventually_from(Some(name), "the node is ready", REACHED, ready)?;
    lab.api(name)?.set_label(&name.to_string(), "after", "crash", REACHED)?;
    lab.node(name).stop_daemon()?;
    recover(lab, name)?;
    let view = lab.eventually_from(Some(name), "it is ready again", REACHED, ready)?;
    let spec = view.nodes.first().and_then(|item| item.node.as_ref()).and_then(|node| node.spec.as_ref());
    ensure!(
        spec.is_some_and(|spec| spec.labels.contains_key("after")),
        "an acknowledged label is gone:\n{view}"
    );
    Ok(())
}

/// Everything that one node does, with two containers that nothing may disturb.
pub(crate) fn one_node(lab: &mut Lab, groups: &[Group]) -> Result<()> {
    add_host(lab, M1)?;
    lab.start_daemon(M1)?;
    lab.form()?;
    lab.load_responder(M1)?;
    lab.cli(M1, "service create --detach --name base --replicas 2 responder:1").ok()?;
    let view = lab.eventually("two tasks run", |view| view.settled("base", 2))?;
    let base = running_on(lab, M1, &view)?;
    let mut work = Work::default();
    for point in groups.iter().flat_map(|group| table::of(*group)) {
        crash(lab, point, &mut work)
            .and_then(|()| settled(lab, point, &mut work, &base))
            .with_context(|| format!("crash at {}", point.name))?;
    }
    // Once more, without a crash before.
    lab.node(M1).stop_daemon()?;
    recover(lab, M1)?;
    unchanged(lab, &mut work, &base)
}

/// Stops the daemon, and starts it to be killed at the point; works until it is.
fn crash(lab: &mut Lab, point: Point, work: &mut Work) -> Result<()> {
    lab.node(M1).stop_daemon()?;
    start_armed(lab, M1, point)?;
    wait_answers_or_dies(lab, M1)?;
    if point.group == Group::Supervisors {
        return crash_supervisor(lab, point, work);
    }
    work_until_killed(lab, M1, point, |lab| match point.group {
        Group::Log => work.write_label(lab),
        Group::Images => work.load_image(lab),
        Group::Volumes => work.replace_volume(lab),
        _ => work.come_and_go(lab, M1, &|lab| !runs(lab, M1)),
    })
}

/// The daemon outlives its supervisors; it is killed itself a little later, so that it does not make more of them.
fn crash_supervisor(lab: &mut Lab, point: Point, work: &mut Work) -> Result<()> {
    let reached = process::wait(REACHED, || {
        // What fails because of the crash, or before there is a leader, is done again.
        let _ = work.come_and_go(lab, M1, &|lab| is_reached(lab, M1));
        is_reached(lab, M1).then_some(())
    });
    reached.with_context(|| format!("{}: was never reached\n{}", point.name, lab.log_tails(12)))?;
    ensure!(runs(lab, M1), "the daemon ended with the supervisor:\n{}", lab.log_tails(20));
    was_killed_there(lab, M1, point)?;
    lab.node(M1).kill_daemon()
}

/// Starts the daemon again and checks everything.
fn settled(lab: &mut Lab, point: Point, work: &mut Work, base: &Running) -> Result<()> {
    recover(lab, M1)?;
    unchanged(lab, work, base)?;
    for name in work.services() {
        lab.eventually_from(Some(M1), "its service runs", REACHED, |view| view.settled(&name, 1))?;
    }
    nothing_left_over(lab, M1)?;
    if point.group == Group::Volumes {
        // Nothing of what was interrupted stands in the way.
        work.replace_volume(lab)?;
        work.check_volume(lab)?;
    }
    if point.group == Group::Images {
        images_are_whole(lab, M1)?;
        work.load_again(lab)?;
        images_are_whole(lab, M1)?;
    }
    for name in work.services() {
        work.remove(lab, &name)?;
    }
    lab.eventually_from(Some(M1), "only the base is left", REACHED, |view| {
        view.tasks.len() == base.len() && view.settled("base", base.len())
    })?;
    nothing_left_over(lab, M1)
}

/// What was acknowledged is there, and the base runs on.
fn unchanged(lab: &Lab, work: &mut Work, base: &Running) -> Result<()> {
    let view = lab.eventually_from(Some(M1), "the node leads and is ready", REACHED, |view| {
        view.ready() == 1 && view.settled("base", base.len())
    })?;
    work.check(lab, &view)?;
    undisturbed(base, &running_on(lab, M1, &view)?)
}
