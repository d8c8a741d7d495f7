//! The rules for each field of an image configuration. An image is data from a stranger: each rule bounds or shapes one field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::ImageError;

use super::config::{HealthCheck, HealthTest, RawHealthCheck};
use super::platform::Platform;

/// Bytes of one argument or variable that execve(2) accepts (`MAX_ARG_STRLEN`), with its NUL.
const ARGUMENT_BYTES: usize = 128 << 10;
/// Bytes of all arguments or variables together; half of what a default stack limit admits.
const ARGUMENTS_BYTES: usize = 1 << 20;
/// How many arguments, variables, ports, volumes or labels.
const ITEMS: usize = 4096;
/// Bytes of a path.
const PATH_BYTES: usize = 4095;
/// Bytes of `USER:GROUP`.
const USER_BYTES: usize = 256;

type FieldResult<T> = Result<T, ImageError>;

fn invalid<T>(field: &'static str, reason: impl Into<String>) -> FieldResult<T> {
    Err(ImageError::config(field, reason))
}

/// A value for a message, shortened when long.
fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
    }
}

pub(super) fn platform(os: String, architecture: String, variant: Option<String>) -> FieldResult<Platform> {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if os != "linux" {
        return invalid("os", format!("{} is not \"linux\"", shown(&os)));
    }
    if !is_word(&architecture) {
        return invalid("architecture", format!("{} is not a word", shown(&architecture)));
    }
    let variant = variant.filter(|variant| !variant.is_empty());
    if let Some(variant) = variant.as_ref().filter(|variant| !is_word(variant)) {
        return invalid("variant", format!("{} is not a word", shown(variant)));
    }
    Ok(Platform { os, architecture, variant })
}

/// Strings for execve: no NUL, bounded one by one and together.
pub(super) fn arguments(field: &'static str, values: Vec<String>) -> FieldResult<Vec<String>> {
    if values.len() > ITEMS {
        return invalid(field, format!("{} items; at most {ITEMS} are allowed", values.len()));
    }
    for value in &values {
        if value.contains('\0') {
            return invalid(field, format!("{} has a NUL byte", shown(value)));
        }
        if value.len() >= ARGUMENT_BYTES {
            return invalid(
                field,
                format!(
                    "{} has {} bytes; the kernel accepts {}",
                    shown(value),
                    value.len(),
                    ARGUMENT_BYTES - 1
                ),
            );
        }
    }
    let total: usize = values.iter().map(|value| value.len() + 1).sum();
    if total > ARGUMENTS_BYTES {
        return invalid(field, format!("{total} bytes together; at most {ARGUMENTS_BYTES} are allowed"));
    }
    Ok(values)
}

/// `NAME=VALUE`; of several with one name the last counts and keeps the first one's place.
pub(super) fn environment(values: Vec<String>) -> FieldResult<Vec<String>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut result: Vec<String> = Vec::new();
    for value in arguments("Env", values)? {
        let name = match value.split_once('=') {
            Some((name, _)) if !name.is_empty() => name.to_owned(),
            _ => return invalid("Env", format!("{} is not NAME=VALUE", shown(&value))),
        };
        match places.get(&name) {
            Some(place) => result[*place] = value,
            None => {
                places.insert(name, result.len());
                result.push(value);
            }
        }
    }
    Ok(result)
}

/// An absolute path in its shortest form; `..` is refused rather than guessed at.
fn absolute_path(field: &'static str, path: &str) -> FieldResult<String> {
    if path.len() > PATH_BYTES {
        return invalid(
            field,
            format!("{} has {} bytes; at most {PATH_BYTES} are allowed", shown(path), path.len()),
        );
    }
    if path.chars().any(char::is_control) {
        return invalid(field, format!("{} has control characters", shown(path)));
    }
    if !path.starts_with('/') {
        return invalid(field, format!("{} is not an absolute path", shown(path)));
    }
    let components: Vec<&str> = path.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    if components.contains(&"..") {
        return invalid(field, format!("{} has a '..' component", shown(path)));
    }
    Ok(format!("/{}", components.join("/")))
}

pub(super) fn working_directory(path: &str) -> FieldResult<Option<String>> {
    if path.is_empty() { Ok(None) } else { absolute_path("WorkingDir", path).map(Some) }
}

pub(super) fn volumes(paths: impl Iterator<Item = String>) -> FieldResult<BTreeSet<String>> {
    let mut volumes = BTreeSet::new();
    for path in paths {
        let volume = absolute_path("Volumes", &path)?;
        if volume == "/" {
            return invalid("Volumes", "the root of the container cannot be a volume");
        }
        volumes.insert(volume);
        if volumes.len() > ITEMS {
            return invalid("Volumes", format!("more than {ITEMS} volumes"));
        }
    }
    Ok(volumes)
}

/// `USER[:GROUP]`: numbers in the kernel's range, or names without anything that has a meaning in passwd files or paths.
pub(super) fn user(text: String) -> FieldResult<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > USER_BYTES {
        return invalid(
            "User",
            format!("{} has {} bytes; at most {USER_BYTES} are allowed", shown(&text), text.len()),
        );
    }
    let (user, group) = text.split_once(':').unwrap_or((&text, "0"));
    for part in [user, group] {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@$\\-".contains(&byte));
        // 4294967295 means "no change" to the kernel.
        let is_valid = if is_number { part.parse::<u32>().is_ok_and(|id| id != u32::MAX) } else { is_name };
        if !is_valid {
            return invalid(
                "User",
                format!("{} is not USER or USER:GROUP, as names or numbers", shown(&text)),
            );
        }
    }
    Ok(Some(text))
}

/// A signal by number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StopSignal(u8);

impl StopSignal {
    /// The signal's number on Linux.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

/// Why a text is not a signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not a signal; write a name such as SIGTERM, SIGRTMIN+3, or a number from 1 to 64")]
pub struct SignalError {
    value: String,
}

/// Numbers of x86-64, arm64 and the other architectures that share the generic table.
const SIGNALS: [(&str, u8); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
];
/// The first and last signal a program may use freely; the C library keeps two below for itself.
const REAL_TIME_FIRST: u8 = 34;
const LAST_SIGNAL: u8 = 64;

impl FromStr for StopSignal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let wrong = || SignalError { value: shown(text) };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
            *number
        } else if let Some(offset) = name.strip_prefix("RTMIN+") {
            REAL_TIME_FIRST.checked_add(small_number(offset).ok_or_else(wrong)?).ok_or_else(wrong)?
        } else if let Some(offset) = name.strip_prefix("RTMAX-") {
            let number =
                LAST_SIGNAL.checked_sub(small_number(offset).ok_or_else(wrong)?).ok_or_else(wrong)?;
            if number < REAL_TIME_FIRST {
                return Err(wrong());
            }
            number
        } else if name == "RTMAX" {
            LAST_SIGNAL
        } else {
            small_number(text).ok_or_else(wrong)?
        };
        if (1..=LAST_SIGNAL).contains(&number) { Ok(Self(number)) } else { Err(wrong()) }
    }
}

fn small_number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn stop_signal(text: &str) -> FieldResult<Option<StopSignal>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: SignalError| ImageError::config("StopSignal", error.to_string()))
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port an image listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExposedPort {
    /// 1 to 65535.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        write!(formatter, "{}/{protocol}", self.port)
    }
}

/// `PORT`, `PORT/PROTOCOL` or `FIRST-LAST/PROTOCOL`.
pub(super) fn exposed_ports(texts: impl Iterator<Item = String>) -> FieldResult<BTreeSet<ExposedPort>> {
    let mut ports = BTreeSet::new();
    for text in texts {
        let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let port = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| *port > 0 && is_number)
        };
        let protocol = match &*protocol.to_ascii_lowercase() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            _ => None,
        };
        let (Some(first), Some(last), Some(protocol)) = (port(first), port(last), protocol) else {
            return invalid(
                "ExposedPorts",
                format!("{} is not PORT, PORT/PROTOCOL or FIRST-LAST/PROTOCOL", shown(&text)),
            );
        };
        ports.extend((first..=last).map(|port| ExposedPort { port, protocol }));
        if first > last || ports.len() > ITEMS {
            return invalid(
                "ExposedPorts",
                format!("{} is an empty range, or makes more than {ITEMS} ports", shown(&text)),
            );
        }
    }
    Ok(ports)
}

pub(super) fn labels(labels: BTreeMap<String, String>) -> FieldResult<BTreeMap<String, String>> {
    if labels.len() > ITEMS {
        return invalid("Labels", format!("{} labels; at most {ITEMS} are allowed", labels.len()));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ARGUMENTS_BYTES {
        return invalid("Labels", format!("{bytes} bytes together; at most {ARGUMENTS_BYTES} are allowed"));
    }
    Ok(labels)
}

/// An empty test means "as in the base image", which at run time is none.
pub(super) fn health_check(raw: RawHealthCheck) -> FieldResult<Option<HealthCheck>> {
    let words = arguments("Healthcheck", raw.test)?;
    let test = match words.split_first() {
        None => return Ok(None),
        Some((kind, [])) if kind == "NONE" => HealthTest::Disabled,
        Some((kind, [line])) if kind == "CMD-SHELL" => HealthTest::Shell(line.clone()),
        Some((kind, command)) if kind == "CMD" && !command.is_empty() => {
            HealthTest::Command(command.to_vec())
        }
        Some((kind, _)) => {
            return invalid(
                "Healthcheck",
                format!("the test {} is not NONE, CMD with words, or CMD-SHELL with a line", shown(kind)),
            );
        }
    };
    let retries = match raw.retries {
        0 => None,
        count => match u32::try_from(count) {
            Ok(count) => Some(count),
            Err(_) => return invalid("Healthcheck", format!("Retries {count} is out of range")),
        },
    };
    Ok(Some(HealthCheck {
        test,
        interval: duration("Interval", raw.interval)?,
        timeout: duration("Timeout", raw.timeout)?,
        start_period: duration("StartPeriod", raw.start_period)?,
        start_interval: duration("StartInterval", raw.start_interval)?,
        retries,
    }))
}

/// Nanoseconds; zero means the default, and less than a millisecond would keep a node busy with nothing else.
fn duration(name: &str, nanoseconds: i64) -> FieldResult<Option<Duration>> {
    const MINIMUM: u64 = 1_000_000;
    match u64::try_from(nanoseconds) {
        Ok(0) => Ok(None),
        Ok(value) if value >= MINIMUM => Ok(Some(Duration::from_nanos(value))),
        _ => invalid("Healthcheck", format!("{name} of {nanoseconds} ns is neither 0 nor at least 1 ms")),
    }
}
