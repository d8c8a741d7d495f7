//! A specification as a client sends it: perhaps without a name, and with an image that is still to be resolved.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::digest::Digest;
use coracle_model::job::JobConfig;
use coracle_model::name::ServiceName;
use coracle_model::rebalance::RebalanceConfig;
use coracle_model::service::{PinnedImage, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig};

use super::{name, rebalance_config, update_config, with_container};
use crate::convert::container::{requested_image, with_image};
use crate::convert::{DecodeError, duration, required};
use crate::v1;

/// What a [`Draft`]'s task refers to before it is pinned; never leaves this file.
const UNPINNED: Digest = Digest::from_bytes([0; 32]);

/// A service specification that lacks the digest of its image, and perhaps its name.
#[derive(Debug, Clone)]
pub struct Draft {
    name: Option<ServiceName>,
    labels: BTreeMap<String, String>,
    mode: ServiceMode,
    update: UpdateConfig,
    rollback: UpdateConfig,
    job: JobConfig,
    rebalance: RebalanceConfig,
    node_down_delay: Option<Duration>,
    task: TaskSpec,
    digest: Option<Digest>,
}

/// Reads the specification of a request.
///
/// # Errors
/// When anything but the name and the digest cannot be expressed in the model, or these are given and wrong.
pub fn draft(message: v1::ServiceSpec) -> Result<Draft, DecodeError> {
    let name = if message.name.is_empty() { None } else { Some(name(&message.name)?) };
    let mode = required("mode", message.mode)?.into();
    let mut task = required("task", message.task)?;
    let mut container = required("container", task.container.take())?;
    let (reference, digest) = requested_image(&mut container)?;
    let container = with_image(container, PinnedImage { reference, digest: UNPINNED })?;
    Ok(Draft {
        name,
        labels: message.labels.into_iter().collect(),
        mode,
        update: update_config(message.update)?,
        rollback: update_config(message.rollback)?,
        job: message.job.unwrap_or_default().try_into()?,
        rebalance: rebalance_config(message.rebalance)?,
        node_down_delay: message.node_down_delay.map(duration),
        task: with_container(task, container)?,
        digest,
    })
}

impl Draft {
    /// The name, if the client gave one.
    #[must_use]
    pub const fn name(&self) -> Option<&ServiceName> {
        self.name.as_ref()
    }

    /// How many tasks, and where.
    #[must_use]
    pub const fn mode(&self) -> ServiceMode {
        self.mode
    }

    /// The image in the operator's words: what is to be resolved.
    #[must_use]
    pub fn image_reference(&self) -> &str {
        &self.task.container.image.reference
    }

    /// The digest, if the client sent one: an update that leaves the image as it is.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same with this name, whatever the client gave.
    #[must_use]
    pub fn with_name(self, name: ServiceName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The specification, with the image pinned to what its reference resolved to.
    ///
    /// # Errors
    /// When there is no name yet.
    pub fn pin(self, digest: Digest) -> Result<ServiceSpec, DecodeError> {
        let mut task = self.task;
        task.container.image.digest = digest;
        let name = required("name", self.name)?;
        Ok(ServiceSpec {
            name,
            labels: self.labels,
            mode: self.mode,
            task,
            update: self.update,
            rollback: self.rollback,
            job: self.job,
            rebalance: self.rebalance,
            node_down_delay: self.node_down_delay,
        })
    }
}

/// Reads the specification of a request that has a name, resolving its image where it brings no digest.
///
/// # Errors
/// Those of [`draft`] and [`Draft::pin`], and those of `resolve`.
pub fn spec_with_digest<E: From<DecodeError>>(
    message: v1::ServiceSpec,
    resolve: impl FnOnce(&str) -> Result<Digest, E>,
) -> Result<ServiceSpec, E> {
    let draft = draft(message)?;
    let digest = match draft.digest() {
        Some(digest) => digest,
        None => resolve(draft.image_reference())?,
    };
    Ok(draft.pin(digest)?)
}
