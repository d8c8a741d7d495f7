//! What goes wrong: machines, links, leaders.
#![allow(unreachable_pub, reason = "a part of a test")]

use std::time::Duration;

use coracle_model::id::NodeId;

use crate::cluster::Cluster;
use crate::operator;
use crate::random::Random;

pub fn strike(cluster: &mut Cluster) {
    let nodes: Vec<NodeId> = cluster.agents.keys().copied().collect();
    let node = nodes[cluster.random.below(nodes.len() as u64) as usize];
    match cluster.random.below(26) {
        0 => crash(cluster, node),
        1 => cut(cluster, node),
        2..=4 => repair(cluster, node),
        5 => change_leader(cluster),
        6 => suspend(cluster),
        7 => reconnect(cluster, node),
        8 => tell_removed(cluster),
        9..=12 => operate(cluster),
        13 | 14 => blink(cluster, node),
        _ => {}
    }
}

fn operate(cluster: &mut Cluster) {
    let before = cluster.state().clone();
    let joined = operator::act(&mut cluster.log.world, &mut cluster.random);
    joined.into_iter().for_each(|node| cluster.join(node));
    // What an operator writes touches keys like everything else; here all of them are looked at.
    if before.index() != cluster.state().index() {
        let written = cluster.log.world.entries.last().map(|(_, proposal)| &proposal.changes);
        let lines: Vec<_> =
            written.into_iter().flatten().map(|change| cluster.log.world.change_line(change)).collect();
        cluster.tell(&format!("an operator: {}", lines.join(", ")));
        let state = cluster.log.world.state.clone();
        cluster.lead.push_touched(&coracle_manager_core::Touched::everything(&state), &state);
    }
}

fn crash(cluster: &mut Cluster, node: NodeId) {
    let noticed = cluster.random.percent(50);
    drop_session(cluster, node, noticed);
    cluster.agents.get_mut(&node).unwrap().crash();
}

fn cut(cluster: &mut Cluster, node: NodeId) {
    drop_session(cluster, node, false);
    cluster.agents.get_mut(&node).unwrap().linked = false;
}

/// A node is cut off for about as long as it takes until it counts as lost.
fn blink(cluster: &mut Cluster, node: NodeId) {
    cut(cluster, node);
    let back = Duration::from_millis(3500 + cluster.random.below(4000));
    cluster.agents.get_mut(&node).unwrap().back_at = Some(cluster.log.now.after(back));
}

/// The connection breaks and is there again at once.
fn reconnect(cluster: &mut Cluster, node: NodeId) {
    let noticed = cluster.random.percent(70);
    drop_session(cluster, node, noticed);
}

fn drop_session(cluster: &mut Cluster, node: NodeId, noticed: bool) {
    let session = cluster.agents.get_mut(&node).unwrap().session.take();
    if let Some(session) = session.filter(|_| noticed) {
        cluster.lead.close(node, session.id, cluster.log.now);
    }
}

pub fn repair(cluster: &mut Cluster, node: NodeId) {
    let agent = cluster.agents.get_mut(&node).unwrap();
    agent.linked = true;
    if !agent.powered {
        agent.boot(&mut cluster.random);
    }
}

/// Another manager leads: it has the log, and nothing that was in memory. The former one may not know yet.
pub fn change_leader(cluster: &mut Cluster) {
    let state = cluster.state().clone();
    cluster.seen.leader_changed(&state);
    let view = cluster.state().clone();
    cluster.log.begin_term(&mut cluster.random);
    let state = cluster.log.follow(&mut cluster.random).clone();
    cluster.log.world.state = state;
    let former = cluster.new_lead();
    cluster.tell("leads a new term");
    if cluster.random.percent(60) {
        cluster.depose(former, view);
    }
}

/// The leader misses its majority for a moment: its memory is gone, its term goes on. The next memory begins when nothing of the
/// former is under way any more.
fn suspend(cluster: &mut Cluster) {
    cluster.log.settle(&mut cluster.random);
    cluster.new_lead();
    cluster.tell("leads again in its term");
}

/// Nodes that were removed hear of it some time.
fn tell_removed(cluster: &mut Cluster) {
    let state = cluster.log.world.state.clone();
    for agent in cluster.agents.values_mut().filter(|agent| state.node(agent.node).is_none()) {
        agent.leave();
    }
}

/// One of those, if there are any.
pub fn pick<T: Copy>(random: &mut Random, items: &[T]) -> Option<T> {
    items.get(random.below(items.len() as u64) as usize).copied()
}
