//! Exact texts of what is refused of services here; what a specification may say is refused in the model.

use super::super::world::{image, service, state, told};
use super::*;

fn view() -> View {
    state(vec![Change::PutImage(image()), Change::CreateService(Box::new(service(1, "web")))])
}

fn change(service: &Service, change: impl FnOnce(&mut v1::ServiceSpec)) -> String {
    let mut spec = v1::ServiceSpec::from(&service.spec);
    change(&mut spec);
    let request = v1::UpdateServiceRequest { spec: Some(spec), ..Default::default() };
    told(updated(&view(), service, &request))
}

#[test]
fn what_a_service_is_stays() {
    let web = service(1, "web");
    assert_eq!(change(&web, |_| {}), "fine");
    assert_eq!(
        change(&web, |spec| "web2".clone_into(&mut spec.name)),
        "name: invalid value \"web2\": a service cannot be renamed\nhint: create another service of this name"
    );
    assert_eq!(
        change(&web, |spec| spec.mode = Some(v1::service_spec::Mode::Global(v1::Global {}))),
        "mode: invalid value \"global\": the mode of a service cannot change\nhint: create another service of this mode"
    );
}

#[test]
fn an_image_is_one_that_the_cluster_has() {
    assert_eq!(told(resolve_image(&view(), "web:1")), "fine");
    assert_eq!(
        told(resolve_image(&view(), "wbe:1")),
        "image: unknown image \"wbe:1\": the cluster has no image of this name\nhint: load it once on a manager with `coracle \
         image load -i FILE`; see `coracle image ls`"
    );
    assert!(told(resolve_image(&view(), "UPPER:1")).starts_with("image: "));
}

#[test]
fn requests_are_complete_and_what_they_are_about_is_there() {
    let without = v1::UpdateServiceRequest::default();
    assert_eq!(told(updated(&view(), &service(1, "web"), &without)), "the request has no specification");
    let id = ServiceId::from_bits(7);
    assert_eq!(told::<()>(Err(gone(id))), format!("service {id} was removed meanwhile"));
    let key = told(idempotency("no key").map(drop));
    assert!(key.starts_with("invalid idempotency key id \"no key\""), "{key}");
}
