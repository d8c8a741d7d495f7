//! The image configuration: what of it reaches a container, validated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_model::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ImageError;
use crate::json;
use crate::limits::Limits;

use super::config_fields as fields;
use super::platform::Platform;

pub use super::config_fields::{ExposedPort, Protocol, SignalError, StopSignal};

/// What an image says about running it. A closed list: whatever else a configuration contains has no effect.
///
/// Every value is bounded and well-formed, but still the image's wish: the paths are to be resolved inside of the container's root
/// file system, the user in its `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// The program and its first arguments; comes before the command.
    pub entrypoint: Vec<String>,
    /// The default arguments, or the program when there is no entrypoint.
    pub command: Vec<String>,
    /// `NAME=VALUE` each; names are unique, the last one written counts.
    pub environment: Vec<String>,
    /// Absolute, without `.` and `..`; nothing means `/`.
    pub working_directory: Option<String>,
    /// `USER[:GROUP]`, names or numbers; nothing means root.
    pub user: Option<String>,
    /// The signal that asks to stop; nothing means SIGTERM.
    pub stop_signal: Option<StopSignal>,
    /// Ports the image listens on: documentation, and what publishing all ports publishes.
    pub exposed_ports: BTreeSet<ExposedPort>,
    /// How to tell whether a container works.
    pub health_check: Option<HealthCheck>,
    /// Absolute paths that want a volume, without `.` and `..`, never the root.
    pub volumes: BTreeSet<String>,
    /// Opaque text; selects nothing.
    pub labels: BTreeMap<String, String>,
}

/// A health check of an image. Durations that are absent take the engine's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is run.
    pub test: HealthTest,
    /// Time between checks.
    pub interval: Option<Duration>,
    /// How long one check may take.
    pub timeout: Option<Duration>,
    /// How long failures do not count after the start.
    pub start_period: Option<Duration>,
    /// Time between checks during the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row until the container counts as unhealthy.
    pub retries: Option<u32>,
}

/// What a health check runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthTest {
    /// Nothing: health checks of base images are switched off.
    Disabled,
    /// A program and its arguments.
    Command(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

/// A configuration document: the container's part, and what the image store needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigDocument {
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
    /// Digests of the uncompressed layers, lowest first.
    pub(crate) diff_ids: Vec<Digest>,
}

/// The document as written. Unknown fields are ignored on reading and never written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RawConfigDocument {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) config: RawConfig,
    #[serde(default)]
    pub(crate) rootfs: RawRootFileSystem,
}

/// The layers of a configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RawRootFileSystem {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) diff_ids: Vec<String>,
}

/// The container's part of a configuration, spelt as the specification does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawConfig {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<RawHealthCheck>,
}

/// The value of the keys that are a set written as an object.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Empty {}

/// A health check as written; durations in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawHealthCheck {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes `null` for empty lists and maps.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ConfigDocument {
    /// Reads and validates a configuration.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ImageError> {
        let raw: RawConfigDocument = json::parse(bytes, "image configuration", limits)?;
        Self::from_raw(raw, limits)
    }

    pub(crate) fn from_raw(raw: RawConfigDocument, limits: &Limits) -> Result<Self, ImageError> {
        let platform = fields::platform(raw.os, raw.architecture, raw.variant)?;
        if raw.rootfs.kind != "layers" {
            return Err(ImageError::config(
                "rootfs.type",
                format!("{:?} is not \"layers\"", raw.rootfs.kind),
            ));
        }
        if raw.rootfs.diff_ids.len() > limits.layers {
            let reason =
                format!("{} layers; at most {} are allowed", raw.rootfs.diff_ids.len(), limits.layers);
            return Err(ImageError::config("rootfs.diff_ids", reason));
        }
        let diff_id = |text: &String| {
            text.parse().map_err(|error| ImageError::config("rootfs.diff_ids", format!("{error}")))
        };
        let diff_ids = raw.rootfs.diff_ids.iter().map(diff_id).collect::<Result<_, _>>()?;
        Ok(Self { config: ImageConfig::from_raw(raw.config)?, platform, diff_ids })
    }
}

impl ImageConfig {
    /// Validates every field.
    pub(crate) fn from_raw(raw: RawConfig) -> Result<Self, ImageError> {
        let RawConfig {
            user,
            exposed_ports,
            env,
            entrypoint,
            cmd,
            volumes,
            working_dir,
            labels,
            stop_signal,
            healthcheck,
        } = raw;
        Ok(Self {
            entrypoint: fields::arguments("Entrypoint", entrypoint)?,
            command: fields::arguments("Cmd", cmd)?,
            environment: fields::environment(env)?,
            working_directory: fields::working_directory(&working_dir)?,
            user: fields::user(user)?,
            stop_signal: fields::stop_signal(&stop_signal)?,
            exposed_ports: fields::exposed_ports(exposed_ports.into_keys())?,
            health_check: healthcheck.map(fields::health_check).transpose()?.flatten(),
            volumes: fields::volumes(volumes.into_keys())?,
            labels: fields::labels(labels)?,
        })
    }
}
