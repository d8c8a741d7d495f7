use coracle_manager_core::{Proposal, State};

use super::Checked;

/// A write whose author led in another term changes nothing.
pub(crate) fn check(before: &State, after: &State, term: u64, proposal: &Proposal) -> Checked {
    let stale = proposal.term != 0 && proposal.term != term;
    if stale && !before.records().skip(1).eq(after.records().skip(1)) {
        return Err(format!(
            "a write of term {} changed something in term {term}: {proposal:?}",
            proposal.term
        ));
    }
    Ok(())
}

#[test]
fn it_sees_a_deposed_leader_that_writes() {
    use super::forge::running;
    use coracle_model::task::DesiredState;
    let mut world = running();
    let before = world.state.clone();
    let raise = world.want("web.1", DesiredState::Shutdown);
    let proposal = Proposal {
        changes: vec![raise],
        actor: String::new(),
        reason: String::new(),
        time: world.now,
        idempotency: None,
        term: 1,
    };
    world.append(1, &proposal).0.into_result().unwrap();
    assert!(check(&before, &world.state, 2, &proposal).is_err());
    assert_eq!(check(&before, &world.state, 1, &proposal), Ok(()));
}
