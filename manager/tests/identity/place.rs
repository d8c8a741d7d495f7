//! Places of managers in Raft.

use std::time::Duration;

use coracle_model::node::ManagerMember;
use coracle_model::role::Role;
use coracle_pki::Subject;
use coracle_proto::v1;
use coracle_proto::v1::membership_client::MembershipClient;

use super::world::World;

#[tokio::test]
async fn a_manager_that_lost_its_log_leaves_no_former_self_behind() {
    let world = World::new().await;
    let address = "127.0.0.1:9".to_owned();
    let former = ManagerMember { raft_id: 5, address: address.clone() };
    let node = world.add_node("m2", Role::Manager, Some(former)).await;
    let raft = world.store.raft();
    // Nobody answers there any more, so that it does not catch up; it is a member all the same.
    raft.add_learner(5, &address, Duration::from_millis(500)).await.unwrap_err();
    assert!(raft.status().borrow().members.address(5).is_some());

    let own = world.credentials(Subject::Manager(node));
    let mut membership = MembershipClient::new(world.channel(Some(&own)));
    let answer = membership.reserve(v1::MembershipReserveRequest { address }).await.unwrap();
    let raft_id = answer.into_inner().raft_id;
    assert_ne!(raft_id, 5);
    let written = world.store.view().node(node).and_then(|node| node.manager.as_ref().map(|own| own.raft_id));
    assert_eq!(written, Some(raft_id));
    assert_eq!(raft.status().borrow().members.address(5), None, "it would count towards majorities");
}
