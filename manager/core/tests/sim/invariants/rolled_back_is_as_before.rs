use coracle_manager_core::{Change, Proposal, State};

use super::Checked;

/// A service that was rolled back is wanted as it was before, with the scale that it has now; what failed is not kept to go back to.
pub(crate) fn check(before: &State, after: &State, proposal: &Proposal) -> Checked {
    for change in &proposal.changes {
        let Change::RollBackService { service, automatic, .. } = change else { continue };
        let (Some(old), Some(new)) = (before.service(*service), after.service(*service)) else { continue };
        let kept = (!automatic).then_some(&old.spec);
        if old.previous_spec.as_deref() != Some(&new.spec) {
            return Err(format!("service {} was rolled back to something else", new.spec.name));
        }
        if new.spec.mode != old.spec.mode {
            return Err(format!("service {} was scaled by its rollback", new.spec.name));
        }
        if new.previous_spec.as_deref() != kept {
            return Err(format!("service {} keeps the wrong specification to go back to", new.spec.name));
        }
    }
    Ok(())
}

#[test]
fn it_sees_a_rollback_to_something_else() {
    use super::forge::{forged, running};
    use coracle_manager_core::state::Record;
    use coracle_model::service::ServiceMode;
    use coracle_model::version::Version;
    use std::sync::Arc;
    let mut world = running();
    let service = world.services["web"];
    world.update_service(service, |spec| spec.task.force_update += 1);
    world.update_service(service, |spec| spec.mode = ServiceMode::Replicated { replicas: 3 });
    let before = world.state.clone();
    let back = Change::RollBackService {
        service,
        expected: Version::default(),
        message: String::new(),
        automatic: true,
    };
    world.write(vec![back]);
    let (_, proposal) = world.entries.last().unwrap().clone();
    assert_eq!(check(&before, &world.state, &proposal), Ok(()));
    let amiss = |change: fn(&mut coracle_model::service::Service)| {
        forged(&world.state, |record| match record {
            Record::Service(service) => {
                let mut service = (*service).clone();
                change(&mut service);
                Record::Service(Arc::new(service))
            }
            other => other,
        })
    };
    let other = amiss(|service| service.spec.task.force_update = 9);
    assert!(check(&before, &other, &proposal).unwrap_err().contains("something else"));
    let kept = amiss(|service| service.previous_spec = Some(Box::new(service.spec.clone())));
    assert!(check(&before, &kept, &proposal).unwrap_err().contains("keeps"));
}
