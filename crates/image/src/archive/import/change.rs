//! Changes to the configuration of an imported image, in the words of a Dockerfile: `CMD ["/bin/app"]`, `ENV A=1 B="2 3"`.

use std::str::FromStr;

use thiserror::Error;

use crate::document::config::{Empty, RawConfig, RawHealthCheck};

/// One change. The values are validated when the image is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportChange {
    /// The default arguments, or the program.
    Command(Vec<String>),
    /// The program.
    Entrypoint(Vec<String>),
    /// Variables, by name and value.
    Environment(Vec<(String, String)>),
    /// Labels, by key and value.
    Labels(Vec<(String, String)>),
    /// Ports, as `PORT[/PROTOCOL]`.
    Expose(Vec<String>),
    /// Paths of volumes.
    Volumes(Vec<String>),
    /// The user.
    User(String),
    /// The working directory.
    WorkingDirectory(String),
    /// The stop signal.
    StopSignal(String),
    /// The health check's test, as in a configuration: `CMD-SHELL` and a line, `CMD` and words, or `NONE`.
    HealthCheck(Vec<String>),
}

/// Why a text is not a change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The first word is no instruction that changes a configuration.
    #[error(
        "change {change:?} does not start with CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME or \
         WORKDIR"
    )]
    Instruction {
        /// The text as given.
        change: String,
    },
    /// The rest is not what the instruction takes.
    #[error("change {change:?} is invalid: {reason}")]
    Value {
        /// The text as given.
        change: String,
        /// What is expected.
        reason: &'static str,
    },
}

impl FromStr for ImportChange {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let change = text.trim();
        let invalid = |reason| ChangeError::Value { change: text.to_owned(), reason };
        let (instruction, value) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        let value = value.trim();
        let instruction = instruction.to_ascii_uppercase();
        let pairs = || {
            pairs(value)
                .ok_or_else(|| invalid("write NAME=VALUE, with quotes around values that have spaces"))
        };
        let words = || {
            let words = list(value).unwrap_or_else(|| value.split_whitespace().map(str::to_owned).collect());
            if words.is_empty() { Err(invalid("a value is missing")) } else { Ok(words) }
        };
        let one = || if value.is_empty() { Err(invalid("a value is missing")) } else { Ok(value.to_owned()) };
        Ok(match &*instruction {
            "CMD" => Self::Command(program(value)),
            "ENTRYPOINT" => Self::Entrypoint(program(value)),
            "ENV" => Self::Environment(pairs()?),
            "LABEL" => Self::Labels(pairs()?),
            "EXPOSE" => Self::Expose(words()?),
            "VOLUME" => Self::Volumes(words()?),
            "USER" => Self::User(one()?),
            "WORKDIR" => Self::WorkingDirectory(one()?),
            "STOPSIGNAL" => Self::StopSignal(one()?),
            "HEALTHCHECK" => {
                Self::HealthCheck(test(value).ok_or_else(|| invalid("write NONE, or CMD and a command"))?)
            }
            _ => return Err(ChangeError::Instruction { change: text.to_owned() }),
        })
    }
}

impl ImportChange {
    /// Later changes win over earlier ones.
    pub(crate) fn apply(&self, config: &mut RawConfig) {
        match self {
            Self::Command(words) => config.cmd.clone_from(words),
            Self::Entrypoint(words) => config.entrypoint.clone_from(words),
            Self::Environment(pairs) => {
                config.env.extend(pairs.iter().map(|(name, value)| format!("{name}={value}")))
            }
            Self::Labels(pairs) => config.labels.extend(pairs.iter().cloned()),
            Self::Expose(ports) => {
                config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Empty {})))
            }
            Self::Volumes(paths) => config.volumes.extend(paths.iter().map(|path| (path.clone(), Empty {}))),
            Self::User(user) => config.user.clone_from(user),
            Self::WorkingDirectory(path) => config.working_dir.clone_from(path),
            Self::StopSignal(signal) => config.stop_signal.clone_from(signal),
            Self::HealthCheck(test) => {
                config.healthcheck = Some(RawHealthCheck { test: test.clone(), ..RawHealthCheck::default() });
            }
        }
    }
}

/// A JSON list of strings.
fn list(value: &str) -> Option<Vec<String>> {
    if value.starts_with('[') { serde_json::from_str(value).ok() } else { None }
}

/// A JSON list, or a line for the shell. An empty value takes back what was set.
fn program(value: &str) -> Vec<String> {
    match list(value) {
        Some(words) => words,
        None if value.is_empty() => Vec::new(),
        None => ["/bin/sh", "-c", value].map(str::to_owned).to_vec(),
    }
}

fn test(value: &str) -> Option<Vec<String>> {
    if value.eq_ignore_ascii_case("none") {
        return Some(vec!["NONE".into()]);
    }
    let (word, command) = value.split_once(char::is_whitespace)?;
    let command = command.trim();
    if !word.eq_ignore_ascii_case("cmd") || command.is_empty() {
        return None;
    }
    Some(match list(command) {
        Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        None => vec!["CMD-SHELL".into(), command.to_owned()],
    })
}

/// `NAME=VALUE` several times, or `NAME VALUE` once. Quotes group, a backslash takes the next character as it is.
fn pairs(value: &str) -> Option<Vec<(String, String)>> {
    let words = split_words(value)?;
    let is_old_form = words.first().is_some_and(|word| !word.contains('='));
    if is_old_form {
        let (name, rest) = value.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), rest.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    let pairs: Vec<_> = words.iter().map(pair).collect::<Option<_>>()?;
    (!pairs.is_empty()).then_some(pairs)
}

fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(letters.next()?),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn good_changes() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, change) in [
            (r#"CMD ["/bin/app", "-x"]"#, ImportChange::Command(strings(&["/bin/app", "-x"]))),
            ("cmd echo hi", ImportChange::Command(strings(&["/bin/sh", "-c", "echo hi"]))),
            ("ENTRYPOINT []", ImportChange::Entrypoint(vec![])),
            (
                r#"ENV A=1 B="2 3" C=a\ b"#,
                ImportChange::Environment(vec![pair("A", "1"), pair("B", "2 3"), pair("C", "a b")]),
            ),
            ("ENV PATH /bin:/usr/bin", ImportChange::Environment(vec![pair("PATH", "/bin:/usr/bin")])),
            ("LABEL k='v w'", ImportChange::Labels(vec![pair("k", "v w")])),
            ("EXPOSE 80/tcp 53/udp", ImportChange::Expose(strings(&["80/tcp", "53/udp"]))),
            (r#"VOLUME ["/data"]"#, ImportChange::Volumes(strings(&["/data"]))),
            ("HEALTHCHECK CMD curl -f x", ImportChange::HealthCheck(strings(&["CMD-SHELL", "curl -f x"]))),
            ("HEALTHCHECK none", ImportChange::HealthCheck(strings(&["NONE"]))),
            ("WORKDIR /srv", ImportChange::WorkingDirectory("/srv".into())),
        ] {
            assert_eq!(text.parse::<ImportChange>().as_ref(), Ok(&change), "{text}");
        }
    }

    #[test]
    fn bad_changes() {
        for text in [
            "",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV A=\"1",
            "USER",
            "WORKDIR ",
            "EXPOSE",
            "HEALTHCHECK curl",
            "LABEL a=1 b",
        ] {
            let error = text.parse::<ImportChange>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
