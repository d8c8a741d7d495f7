//! Services as registers: created, changed, scaled and removed by several clients at once.

use coracle_history::Kind;
use coracle_model::id::IdempotencyKey;
use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode;
use coracle_proto::v1::services_client::ServicesClient;

use super::client::{Client, Failure};
use crate::image::RESPONDER;

/// The services that clients fight over.
pub(super) const NAMES: [&str; 3] = ["left", "middle", "right"];
/// The label that holds the value, so that it can be told what a service was written as.
const LABEL: &str = "value";
/// Most replicas of one of them.
const REPLICAS: u64 = 3;

fn key(name: &str) -> String {
    format!("service/{name}")
}

/// What a service with this value is: replicas are part of the value, so that they are checked with it.
pub(super) fn value_of(spec: &v1::ServiceSpec) -> String {
    let text = spec.labels.get(LABEL).cloned().unwrap_or_default();
    format!("{text}x{}", replicas_of(spec))
}

/// How many tasks it should have.
pub(super) fn replicas_of(spec: &v1::ServiceSpec) -> u64 {
    match spec.mode {
        Some(Mode::Replicated(v1::Replicated { replicas })) => replicas,
        _ => 0,
    }
}

/// A specification of tasks that sleep on workers.
pub(super) fn specification(name: &str, value: &str, replicas: u64) -> v1::ServiceSpec {
    let image = v1::PinnedImage { reference: RESPONDER.to_owned(), digest: String::new() };
    let container =
        v1::ContainerSpec { image: Some(image), args: vec!["sleep".to_owned()], ..Default::default() };
    let placement =
        v1::Placement { constraints: vec!["node.role==worker".to_owned()], ..v1::Placement::default() };
    v1::ServiceSpec {
        name: name.to_owned(),
        labels: [(LABEL.to_owned(), value.to_owned())].into(),
        mode: Some(Mode::Replicated(v1::Replicated { replicas })),
        task: Some(v1::TaskSpec {
            container: Some(container),
            placement: Some(placement),
            ..Default::default()
        }),
        ..v1::ServiceSpec::default()
    }
}

/// One operation.
pub(super) fn step(client: &mut Client) {
    let Some(name) = client.random.pick(&NAMES).copied() else { return };
    match client.random.below(100) {
        0..20 => create(client, name),
        20..60 => update(client, name),
        60..72 => remove(client, name),
        // A failed read says nothing.
        _ => drop(read(client)),
    }
}

fn new_key(client: &mut Client) -> String {
    let bits = u128::from(client.random.next()) << 64 | u128::from(client.random.next());
    IdempotencyKey::from_bits(bits).to_string()
}

fn create(client: &mut Client, name: &str) {
    let (value, replicas) = (client.new_value(), client.random.below(REPLICAS + 1));
    let spec = specification(name, &value, replicas);
    let value = value_of(&spec);
    let request = v1::CreateServiceRequest { spec: Some(spec), idempotency_key: new_key(client) };
    let invoked_at = client.now();
    let outcome = client.ask_again(|channel| {
        let request = request.clone();
        async move { ServicesClient::new(channel).create(request).await }
    });
    client.wrote(key(name), Kind::Write(Some(value)), invoked_at, outcome.map(|answer| answer.version));
}

/// Another value; half of the time also another specification of its tasks, which replaces them.
fn update(client: &mut Client, name: &str) {
    let Ok(services) = read(client) else { return };
    let spec_of = |service: &v1::Service| service.spec.clone().unwrap_or_default();
    let Some(present) = services.into_iter().find(|service| spec_of(service).name == name) else { return };
    let (value, replicas) = (client.new_value(), client.random.below(REPLICAS + 1));
    let mut spec = specification(name, &value, replicas);
    spec.task = spec_of(&present).task;
    if client.random.chance(30)
        && let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut())
    {
        container.env = vec![format!("VALUE={value}")];
    }
    let value = value_of(&spec);
    let request = v1::UpdateServiceRequest {
        service: present.id,
        version: present.version,
        spec: Some(spec),
        idempotency_key: new_key(client),
    };
    let invoked_at = client.now();
    let outcome = client.ask_again(|channel| {
        let request = request.clone();
        async move { ServicesClient::new(channel).update(request).await }
    });
    let kind = Kind::WriteIf { value: Some(value), expected: present.version };
    client.wrote(key(name), kind, invoked_at, outcome.map(|answer| answer.version));
}

fn remove(client: &mut Client, name: &str) {
    let request = v1::RemoveServiceRequest { service: name.to_owned(), idempotency_key: new_key(client) };
    let invoked_at = client.now();
    let outcome = client.ask_again(|channel| {
        let request = request.clone();
        async move { ServicesClient::new(channel).remove(request).await }
    });
    client.wrote(key(name), Kind::Write(None), invoked_at, outcome.map(|answer| answer.version));
}

/// Reads all services at once.
pub(super) fn read(client: &mut Client) -> Result<Vec<v1::Service>, Failure> {
    let invoked_at = client.now();
    let request = v1::ListServicesRequest {};
    let answer = client.ask(|channel| async move { ServicesClient::new(channel).list(request).await })?;
    let completed_at = client.now();
    let services: Vec<v1::Service> =
        answer.services.into_iter().filter_map(|item| item.service).filter(is_ours).collect();
    let with_name = |name: &str| {
        services.iter().filter_map(|service| service.spec.as_ref()).find(|spec| spec.name == name)
    };
    for name in NAMES {
        client.read(key(name), invoked_at, completed_at, answer.index, with_name(name).map(value_of));
    }
    Ok(services)
}

fn is_ours(service: &v1::Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.name != super::rest::STEADY)
}
