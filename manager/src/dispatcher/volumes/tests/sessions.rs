//! What a session that was replaced says, and what ends an archive before its end.

use coracle_proto::status::ApiError;

use super::*;

fn report(first: bool, names: &[&str], last: bool) -> v1::VolumeReport {
    let volume = |name: &&str| v1::Volume { name: (*name).to_owned(), ..Default::default() };
    v1::VolumeReport { first, last, set: names.iter().map(volume).collect(), ..Default::default() }
}

#[tokio::test]
async fn a_session_that_was_replaced_tells_and_takes_along_nothing() {
    let world = World::new();
    let told = |node: &Node| {
        let volumes = world.broker.volumes(node.place.node)?.0;
        Some(volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>())
    };
    let tell = |of: &Node, report| world.broker.report(of.place.node, of.session, report).unwrap();
    let old = world.node(1);
    tell(&old, report(false, &["a"], false));
    assert_eq!(told(&old), Some(vec!["a".to_owned()]));
    let new = world.silent_node(1);
    tell(&old, report(false, &["b"], false));
    assert_eq!(told(&new), Some(vec!["a".to_owned()]), "the old one's word counts no more");
    tell(&new, report(false, &["c"], false));
    assert_eq!(told(&new), None, "what the old one told is not what the new one has");
    tell(&new, report(true, &["d"], true));
    world.broker.forget(old.place.node, old.session);
    assert_eq!(told(&new), Some(vec!["d".to_owned()]));
}

/// A node that is asked for an archive, the request, and who reads.
async fn reading(world: &World) -> (Node, String, crate::dispatcher::volumes::Reading) {
    let mut node = world.node(1);
    let place = node.place.clone();
    let asked = world.broker.read(&place, "data".to_owned());
    let (reading, request) = tokio::join!(asked, node.request());
    (node, request.id, reading.unwrap())
}

#[tokio::test]
async fn why_a_node_does_not_read_reaches_who_asked() {
    let world = World::new();
    let (node, id, mut reading) = reading(&world).await;
    let problem = v1::VolumeProblem::from(ApiError::new(Reason::NotFound, "there is none".to_owned()));
    world.answer(&node, &id, Answer::Problem(problem));
    assert_eq!(reason(reading.next().await.unwrap_err()), Reason::NotFound);
}

#[tokio::test]
async fn a_node_that_is_lost_ends_the_reading() {
    let world = World::new();
    let (node, _, mut reading) = reading(&world).await;
    node.close.cancel();
    let ended = tokio::time::timeout(LIMIT, reading.next()).await.expect("nobody noticed");
    assert_eq!(reason(ended.unwrap_err()), Reason::Unavailable);
}

#[tokio::test]
async fn no_node_sends_pieces_that_are_too_large() {
    let world = World::new();
    let (node, id, _reading) = reading(&world).await;
    let large = chunk(Part::Data(Bytes::from(vec![0; (1 << 20) + 1])));
    let refused = world.broker.publish(node.place.node, archive(&id, vec![large])).await;
    assert_eq!(refused.unwrap_err().reason, Reason::TooLarge);
}
