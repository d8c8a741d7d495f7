//! What the images of a service's mounts stand for: names become digests, once.

use coracle_manager_core::state::State;
use coracle_model::mount::{Mount, MountKind};
use coracle_model::service::{PinnedImage, ServiceSpec};
use coracle_proto::status::ApiError;

use super::service::resolve_image;

/// Pins the mounted images of a specification that an operator sends. One that the service mounts already, and that the request
/// has with its digest, stays what it is.
///
/// # Errors
/// If the cluster has no image of a name.
pub(super) fn resolve(
    view: &State,
    present: Option<&ServiceSpec>,
    spec: &mut ServiceSpec,
) -> Result<(), ApiError> {
    let kept = |image: &PinnedImage| {
        present.is_some_and(|present| mounted(&present.task.container.mounts).any(|known| known == image))
    };
    for mount in &mut spec.task.container.mounts {
        let MountKind::Image { image, .. } = &mut mount.kind else { continue };
        if !kept(image) {
            image.digest = resolve_image(view, &image.reference).map_err(|error| ApiError {
                message: format!("mount {}: {}", mount.target, error.message),
                ..error
            })?;
        }
    }
    Ok(())
}

fn mounted(mounts: &[Mount]) -> impl Iterator<Item = &PinnedImage> {
    mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Image { image, .. } => Some(image),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use coracle_manager_core::apply::apply;
    use coracle_manager_core::change::{Change, Proposal};
    use coracle_model::digest::Digest;
    use coracle_model::image::ImageEntry;
    use coracle_model::node::Platform;
    use coracle_model::service::{ContainerSpec, ServiceMode, TaskSpec};
    use coracle_model::time::Timestamp;
    use coracle_model::version::Version;

    use super::*;

    const OLD: Digest = Digest::from_bytes([1; 32]);
    const NEW: Digest = Digest::from_bytes([2; 32]);
    const UNPINNED: Digest = Digest::from_bytes([0; 32]);

    fn view(digest: Digest) -> State {
        let entry = ImageEntry {
            name: "docker.io/library/files:1".to_owned(),
            version: Version::default(),
            digest,
            size: 0,
            platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
            created_at: Timestamp::EPOCH,
        };
        let mut state = State::default();
        let proposal = Proposal {
            changes: vec![Change::PutImage(entry)],
            actor: String::new(),
            reason: String::new(),
            time: Timestamp::EPOCH,
            idempotency: None,
            term: 0,
        };
        apply(&mut state, 1, 1, &proposal);
        state
    }

    fn spec(reference: &str, digest: Digest) -> ServiceSpec {
        let own = PinnedImage { reference: "web:1".to_owned(), digest: OLD };
        let mut container = ContainerSpec::of(own);
        let image = PinnedImage { reference: reference.to_owned(), digest };
        let kind = MountKind::Image { image, subpath: String::new() };
        container.mounts.push(Mount { target: "/files".to_owned(), read_only: false, kind });
        ServiceSpec::of(
            "web".parse().unwrap(),
            ServiceMode::Replicated { replicas: 1 },
            TaskSpec::of(container),
        )
    }

    fn resolved(present: Option<&ServiceSpec>, mut spec: ServiceSpec) -> Digest {
        resolve(&view(NEW), present, &mut spec).unwrap();
        mounted(&spec.task.container.mounts).next().unwrap().digest
    }

    #[test]
    fn a_name_is_resolved_once() {
        let present = spec("files:1", OLD);
        assert_eq!(resolved(None, spec("files:1", UNPINNED)), NEW);
        assert_eq!(resolved(None, spec("files:1", OLD)), NEW, "what a client says of a new one is no matter");
        assert_eq!(resolved(Some(&present), spec("files:1", OLD)), OLD, "it stays what it is");
        assert_eq!(resolved(Some(&present), spec("files:1", UNPINNED)), NEW, "mounted anew");
        let mut unknown = spec("other:1", UNPINNED);
        let error = resolve(&view(NEW), Some(&present), &mut unknown).unwrap_err();
        assert!(
            error.message.starts_with("mount /files: image: unknown image \"other:1\""),
            "{}",
            error.message
        );
        assert!(error.hint.is_some());
    }
}
