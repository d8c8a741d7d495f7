//! What the tests of refusals look at: a state with a few objects, made of nothing but changes.

use std::sync::Arc;

use coracle_manager_core::state::{State, View};
use coracle_manager_core::{Change, Proposal, apply};
use coracle_model::digest::Digest;
use coracle_model::id::{NodeId, ServiceId};
use coracle_model::image::ImageEntry;
use coracle_model::node::{Availability, Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Platform};
use coracle_model::role::Role;
use coracle_model::service::{ContainerSpec, PinnedImage, Service, ServiceMode, ServiceSpec, TaskSpec};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_proto::status::ApiError;

pub(super) const DIGEST: Digest = Digest::from_bytes([1; 32]);

/// A state after these changes, each in a write of its own.
pub(super) fn state(changes: Vec<Change>) -> View {
    let mut state = State::default();
    for (index, change) in (1..).zip(changes) {
        let proposal = Proposal {
            changes: vec![change],
            actor: "test".to_owned(),
            reason: "test".to_owned(),
            time: Timestamp::EPOCH,
            idempotency: None,
            term: 0,
        };
        apply(&mut state, index, 1, &proposal);
    }
    Arc::new(state)
}

/// A worker that has just joined.
pub(super) fn node(bits: u128, hostname: &str) -> Node {
    Node {
        id: NodeId::from_bits(bits),
        version: Version::default(),
        created_at: Timestamp::EPOCH,
        spec: NodeSpec {
            role: Role::Worker,
            availability: Availability::Active,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
        },
        description: NodeDescription { hostname: hostname.to_owned(), ..NodeDescription::default() },
        status: NodeStatus {
            state: NodeState::Unknown,
            since: Timestamp::EPOCH,
            message: String::new(),
            address: "10.0.0.1:2377".to_owned(),
        },
        manager: None,
    }
}

/// A replicated service of the image `web:1`.
pub(super) fn service(bits: u128, name: &str) -> Service {
    let image = PinnedImage { reference: "web:1".to_owned(), digest: DIGEST };
    let task = TaskSpec::of(ContainerSpec::of(image));
    Service {
        id: ServiceId::from_bits(bits),
        version: Version::default(),
        spec_version: Version::default(),
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        spec: ServiceSpec::of(name.parse().unwrap(), ServiceMode::Replicated { replicas: 1 }, task),
        previous_spec: None,
        update: None,
        job: None,
        rebalance: None,
    }
}

/// The image `web:1`.
pub(super) fn image() -> ImageEntry {
    ImageEntry {
        name: "docker.io/library/web:1".to_owned(),
        version: Version::default(),
        digest: DIGEST,
        size: 0,
        platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
        created_at: Timestamp::EPOCH,
    }
}

/// What an operator reads.
pub(super) fn told<T>(outcome: Result<T, ApiError>) -> String {
    match outcome {
        Ok(_) => "fine".to_owned(),
        Err(ApiError { message, hint: Some(hint), .. }) => format!("{message}\nhint: {hint}"),
        Err(error) => error.message,
    }
}
