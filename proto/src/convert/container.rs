//! What runs in a task.

use coracle_model::digest::Digest;
use coracle_model::health::HealthConfig;
use coracle_model::security::Privileges;
use coracle_model::service::{ContainerSpec, DEFAULT_STOP_GRACE, Dns, LogConfig, PinnedImage, Ulimit};

use super::{DecodeError, duration, enumerator, nanos, parse, required};
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
            entrypoint: spec.entrypoint.clone(),
            groups: spec.groups.clone(),
            files: spec.files.iter().map(Into::into).collect(),
            pre_stop_delay: nanos(spec.pre_stop_delay),
            init: spec.init,
            tty: spec.tty,
            health: Some((&spec.health).into()),
            privileges: Some((&spec.privileges).into()),
            devices: spec.devices.iter().map(Into::into).collect(),
            ulimits: spec.ulimits.iter().map(|(name, limit)| (name.clone(), limit.into())).collect(),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            dns: Some((&spec.dns).into()),
            hosts: spec.hosts.clone(),
            shm_size: spec.shm_size,
            pid: v1::NamespaceMode::from(spec.pid).into(),
            ipc: v1::NamespaceMode::from(spec.ipc).into(),
            uts: v1::NamespaceMode::from(spec.uts).into(),
            oom_score_adj: spec.oom_score_adj,
            log: Some((&spec.log).into()),
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
        entrypoint: message.entrypoint,
        groups: message.groups,
        files: message.files.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        pre_stop_delay: duration(message.pre_stop_delay),
        init: message.init,
        tty: message.tty,
        health: message.health.map_or_else(HealthConfig::default, Into::into),
        privileges: message.privileges.map_or_else(Privileges::default, Into::into),
        devices: message.devices.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        ulimits: message.ulimits.into_iter().map(|(name, limit)| (name, limit.into())).collect(),
        sysctls: message.sysctls.into_iter().collect(),
        dns: message.dns.map_or_else(Dns::default, Into::into),
        hosts: message.hosts,
        shm_size: message.shm_size,
        pid: enumerator::<v1::NamespaceMode>("pid", message.pid)?.into(),
        ipc: enumerator::<v1::NamespaceMode>("ipc", message.ipc)?.into(),
        uts: enumerator::<v1::NamespaceMode>("uts", message.uts)?.into(),
        oom_score_adj: message.oom_score_adj,
        log: message.log.map_or_else(LogConfig::default, Into::into),
    })
}

impl From<&Ulimit> for v1::Ulimit {
    fn from(limit: &Ulimit) -> Self {
        Self { soft: limit.soft, hard: limit.hard }
    }
}

impl From<v1::Ulimit> for Ulimit {
    fn from(message: v1::Ulimit) -> Self {
        Self { soft: message.soft, hard: message.hard }
    }
}

impl From<&Dns> for v1::Dns {
    fn from(dns: &Dns) -> Self {
        Self { servers: dns.servers.clone(), options: dns.options.clone(), search: dns.search.clone() }
    }
}

impl From<v1::Dns> for Dns {
    fn from(message: v1::Dns) -> Self {
        Self { servers: message.servers, options: message.options, search: message.search }
    }
}

impl From<&LogConfig> for v1::LogConfig {
    fn from(log: &LogConfig) -> Self {
        Self { driver: log.driver.clone(), options: log.options.clone().into_iter().collect() }
    }
}

impl From<v1::LogConfig> for LogConfig {
    fn from(message: v1::LogConfig) -> Self {
        Self { driver: message.driver, options: message.options.into_iter().collect() }
    }
}
