//! Crashes of nodes that join, fetch images, change their role and leave; m1 stays, and with it everything that it runs.

use anyhow::{Context as _, Result, ensure};
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, Name, W1};
use coracle_integration::view::{View, hostname_of};
use coracle_proto::v1;

use crate::drive::{add_host, recover, runs, start_armed, wait_answers_or_dies, work_until_killed};
use crate::invariants::{Running, images_are_whole, nothing_left_over, running_on, undisturbed};
use crate::table::{self, Group, Point};
use crate::work::Work;

/// All of it, in one cluster.
pub(crate) fn all(lab: &mut Lab) -> Result<()> {
    add_host(lab, M1)?;
    lab.start_daemon(M1)?;
    lab.form()?;
    lab.load_responder(M1)?;
    let on = "--constraint node.hostname==m1";
    lab.cli(M1, &format!("service create --detach --name base --replicas 2 {on} responder:1")).ok()?;
    let view = lab.eventually("two tasks run", |view| view.settled("base", 2))?;
    let mut world = World { base: running_on(lab, M1, &view)?, work: Work::default() };
    add_host(lab, W1)?;
    lab.start_daemon(W1)?;
    let joins: Vec<Point> = table::of(Group::JoinWorker).collect();
    let leaves: Vec<Point> = table::of(Group::Leave).collect();
    for number in 0..joins.len().max(leaves.len()) {
        match joins.get(number) {
            Some(point) => world.told(lab, *point, |world, lab| world.join(lab, W1, *point))?,
            None => join(lab, W1)?,
        }
        if number == 0 {
            for point in table::of(Group::Fetch) {
                world.told(lab, point, |world, lab| world.fetch(lab, point))?;
            }
            for point in table::of(Group::Promote) {
                world.told(lab, point, |world, lab| world.promote(lab, point))?;
            }
        }
        match leaves.get(number) {
            Some(point) => world.told(lab, *point, |world, lab| world.leave(lab, *point))?,
            None => leave(lab, W1)?,
        }
    }
    // Enough that a new manager needs a snapshot.
    for _ in 0..80 {
        world.work.write_label(lab)?;
    }
    for (number, point) in (2..).zip(table::of(Group::JoinManager)) {
        let name = Name::Manager(number);
        add_host(lab, name)?;
        lab.start_daemon(name)?;
        world.told(lab, point, |world, lab| world.join(lab, name, point))?;
        leave(lab, name)?;
        lab.power_off(name)?;
    }
    world.check(lab)
}

struct World {
    base: Running,
    work: Work,
}

impl World {
    /// Runs one crash, with the point in the error, and then checks what must always be so.
    fn told(
        &mut self,
        lab: &mut Lab,
        point: Point,
        crash: impl FnOnce(&mut Self, &mut Lab) -> Result<()>,
    ) -> Result<()> {
        let result = crash(self, lab).and_then(|()| self.check(lab));
        result.with_context(|| format!("crash at {} ({:?})", point.name, point.group))
    }

    /// m1 takes writes and has what was acknowledged, and its containers run on.
    fn check(&mut self, lab: &Lab) -> Result<()> {
        self.work.write_label(lab)?;
        let view = lab.view_from(M1)?;
        self.work.check(lab, &view)?;
        undisturbed(&self.base, &running_on(lab, M1, &view)?)
    }

    fn join(&mut self, lab: &mut Lab, name: Name, point: Point) -> Result<()> {
        lab.node(name).stop_daemon()?;
        start_armed(lab, name, point)?;
        wait_answers_or_dies(lab, name)?;
        let line = join_line(lab, name)?;
        work_until_killed(lab, name, point, |lab| join_once(lab, name, &line))?;
        // Whatever became of it, the others go on.
        self.check(lab)?;
        recover(lab, name)?;
        if lab.info(name)?.state != "active" {
            lab.cli(name, &line).ok()?;
        }
        is_member(lab, name)?;
        forget_the_dead(lab, name)?;
        restart_unchanged(lab, name)
    }

    /// The first task on a new node fetches its image from m1.
    fn fetch(&mut self, lab: &mut Lab, point: Point) -> Result<()> {
        lab.node(W1).stop_daemon()?;
        start_armed(lab, W1, point)?;
        wait_answers_or_dies(lab, W1)?;
        self.work.create(lab, "there", W1)?;
        work_until_killed(lab, W1, point, |_| Ok(()))?;
        recover(lab, W1)?;
        lab.eventually("the image comes and the task runs", |view| view.settled("there", 1))?;
        images_are_whole(lab, W1)?;
        nothing_left_over(lab, W1)?;
        restart_unchanged(lab, W1)
    }

    /// A worker gets the certificate of a manager.
    fn promote(&mut self, lab: &mut Lab, point: Point) -> Result<()> {
        lab.node(W1).stop_daemon()?;
        start_armed(lab, W1, point)?;
        wait_answers_or_dies(lab, W1)?;
        lab.eventually("w1 is ready", |view| view.is_ready("w1"))?;
        lab.cli(M1, "node promote w1").ok()?;
        work_until_killed(lab, W1, point, |_| Ok(()))?;
        self.check(lab)?;
        recover(lab, W1)?;
        lab.eventually_within("both vote", FORM_DEADLINE, |view| view.voters() == 2)?;
        restart_unchanged(lab, W1)?;
        lab.eventually_within("both vote", FORM_DEADLINE, |view| view.voters() == 2 && view.ready() == 2)?;
        lab.cli(M1, "node demote w1").ok()?;
        lab.eventually_within("one votes", FORM_DEADLINE, |view| view.voters() == 1 && view.ready() == 2)?;
        Ok(())
    }

    /// A worker with a task leaves. Until its membership is gone it is a member, and from then on it is none.
    fn leave(&mut self, lab: &mut Lab, point: Point) -> Result<()> {
        if self.work.services().is_empty() {
            self.work.create(lab, "there", W1)?;
        }
        lab.eventually("its task runs", |view| view.settled("there", 1))?;
        lab.node(W1).stop_daemon()?;
        start_armed(lab, W1, point)?;
        wait_answers_or_dies(lab, W1)?;
        work_until_killed(lab, W1, point, |lab| lab.cli(W1, "swarm leave").ok().map(drop))?;
        self.check(lab)?;
        recover(lab, W1)?;
        if lab.info(W1)?.state == "active" {
            is_member(lab, W1)?;
            lab.eventually("its task runs again", |view| view.settled("there", 1))?;
            nothing_left_over(lab, W1)?;
            lab.cli(W1, "swarm leave").ok()?;
        }
        ensure!(lab.info(W1)?.state == "inactive", "it left");
        lab.until("nothing runs there", |lab| {
            let folders = lab.get(W1)?.folders();
            let containers = std::fs::read_dir(folders.data().join("containers"))?.count();
            Ok(containers == 0 && lab.get(W1)?.other_processes()?.is_empty())
        })?;
        forget_the_dead(lab, W1)
    }
}

fn join_line(lab: &Lab, name: Name) -> Result<String> {
    let role = if name.is_manager() { "manager" } else { "worker" };
    let token = lab.cli(M1, &format!("swarm join-token -q {role}")).ok()?;
    Ok(format!("swarm join --token {token} {}:2377", M1.address()))
}

/// Joins, or waits for what a join brings.
fn join_once(lab: &Lab, name: Name, line: &str) -> Result<()> {
    if lab.info(name)?.state == "active" {
        std::thread::sleep(std::time::Duration::from_millis(20));
        return Ok(());
    }
    lab.cli(name, line).ok().map(drop)
}

fn join(lab: &Lab, name: Name) -> Result<()> {
    lab.cli(name, &join_line(lab, name)?).ok()?;
    is_member(lab, name)
}

fn is_member(lab: &Lab, name: Name) -> Result<()> {
    let id = lab.info(name)?.node_id;
    lab.eventually_within("it is ready and, as a manager, votes", FORM_DEADLINE, |view| {
        let found = view.nodes.iter().find(|item| id_of(item) == id);
        found.is_some_and(|item| is_ready(item) && (item.voter || !name.is_manager()))
    })?;
    Ok(())
}

/// Leaves in an orderly way.
fn leave(lab: &mut Lab, name: Name) -> Result<()> {
    if name.is_manager() {
        lab.cli(M1, &format!("node demote {name}")).ok()?;
        lab.eventually_within("m1 alone votes", FORM_DEADLINE, |view| view.voters() == 1)?;
        lab.until("it knows", |lab| Ok(lab.info(name)?.role() == v1::NodeRole::Worker))?;
    }
    lab.cli(name, "swarm leave").ok()?;
    forget_the_dead(lab, name)
}

/// Removes what earlier attempts of this host to be a member have left in the list of nodes.
fn forget_the_dead(lab: &Lab, name: Name) -> Result<()> {
    let id = lab.info(name)?.node_id;
    let dead = |view: &View| -> Vec<String> {
        let of_host = view.nodes.iter().filter(|item| hostname_of(item) == name.to_string());
        of_host.map(id_of).filter(|other| *other != id).collect()
    };
    for other in dead(&lab.view_from(M1)?) {
        if name.is_manager() {
            lab.cli(M1, &format!("node demote {other}")).ok()?;
        }
        lab.until("it can be removed", |lab| {
            lab.cli(M1, &format!("node rm --force {other}")).ok()?;
            Ok(true)
        })?;
    }
    let left = dead(&lab.view_from(M1)?);
    ensure!(left.is_empty(), "nodes that are gone are left: {left:?}");
    Ok(())
}

/// Another restart changes nothing.
fn restart_unchanged(lab: &mut Lab, name: Name) -> Result<()> {
    let id = lab.info(name)?.node_id;
    let before = running_on(lab, name, &lab.view_from(M1)?)?;
    lab.node(name).stop_daemon()?;
    recover(lab, name)?;
    ensure!(runs(lab, name) && lab.info(name)?.node_id == id, "it is another node than before");
    is_member(lab, name)?;
    undisturbed(&before, &running_on(lab, name, &lab.view_from(M1)?)?)
}

fn id_of(item: &v1::NodeListItem) -> String {
    item.node.as_ref().map(|node| node.id.clone()).unwrap_or_default()
}

fn is_ready(item: &v1::NodeListItem) -> bool {
    let status = item.node.as_ref().and_then(|node| node.status.as_ref());
    status.is_some_and(|status| status.state() == v1::NodeState::Ready)
}
