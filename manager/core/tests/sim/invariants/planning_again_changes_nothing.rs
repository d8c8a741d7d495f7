//! `World::settle` applies every plan and plans the same key again; what it finds is a panic. Here it is shown that it
//! finds something.

use coracle_model::task::DesiredState;

use super::forge::running;
use crate::world::Key;

#[test]
fn it_sees_a_plan_that_was_not_carried_out() {
    let mut world = running();
    let service = world.services["web"];
    let cleared = world.want("web.1", DesiredState::Remove);
    world.write(vec![cleared]);
    let first = world.plan(Key::Service(service));
    assert!(!first.is_empty() && !world.plan(Key::Service(service)).is_empty());
    world.write(first.changes);
    assert!(world.plan(Key::Service(service)).is_empty());
}
