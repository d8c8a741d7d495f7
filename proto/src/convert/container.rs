//! What runs in a task.

use coracle_model::digest::Digest;
use coracle_model::service::{ContainerSpec, DEFAULT_STOP_GRACE, PinnedImage};

use super::{DecodeError, duration, nanos, parse, required};
use crate::v1;

impl From<&PinnedImage> for v1::PinnedImage {
    fn from(image: &PinnedImage) -> Self {
        Self { reference: image.reference.clone(), digest: image.digest.to_string() }
    }
}

impl TryFrom<v1::PinnedImage> for PinnedImage {
    type Error = DecodeError;

    fn try_from(message: v1::PinnedImage) -> Result<Self, DecodeError> {
        let digest = parse("image digest", &message.digest)?;
        Ok(Self { reference: message.reference, digest })
    }
}

impl From<&ContainerSpec> for v1::ContainerSpec {
    fn from(spec: &ContainerSpec) -> Self {
        Self {
            image: Some((&spec.image).into()),
            args: spec.args.clone(),
            env: spec.env.clone(),
            workdir: spec.workdir.clone(),
            user: spec.user.clone(),
            hostname: spec.hostname.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            mounts: spec.mounts.iter().map(Into::into).collect(),
            read_only: spec.read_only,
            stop_grace: Some(nanos(spec.stop_grace)),
            stop_signal: spec.stop_signal.clone(),
        }
    }
}

impl TryFrom<v1::ContainerSpec> for ContainerSpec {
    type Error = DecodeError;

    fn try_from(mut message: v1::ContainerSpec) -> Result<Self, DecodeError> {
        let image = required("image", message.image.take())?.try_into()?;
        with_image(message, image)
    }
}

/// What a request says of its image: the operator's words, and the digest where the client knows it.
pub(super) fn requested_image(
    message: &mut v1::ContainerSpec,
) -> Result<(String, Option<Digest>), DecodeError> {
    let image = required("image", message.image.take())?;
    if image.reference.is_empty() {
        return Err(DecodeError::Missing { field: "image" });
    }
    let digest = if image.digest.is_empty() { None } else { Some(parse("image digest", &image.digest)?) };
    Ok((image.reference, digest))
}

/// Everything but the image, which is decided elsewhere.
pub(super) fn with_image(
    message: v1::ContainerSpec,
    image: PinnedImage,
) -> Result<ContainerSpec, DecodeError> {
    Ok(ContainerSpec {
        image,
        args: message.args,
        env: message.env,
        workdir: message.workdir,
        user: message.user,
        hostname: message.hostname,
        labels: message.labels.into_iter().collect(),
        mounts: message.mounts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        read_only: message.read_only,
        stop_grace: message.stop_grace.map_or(DEFAULT_STOP_GRACE, duration),
        stop_signal: message.stop_signal,
    })
}
