//! Placeholders in the content of secrets and configs.
//!
//! What a secret contains is in no message: only where in it something is wrong.

use super::{Placeholder, Template, TemplateError, Words};
use crate::secret::{FileKind, FileReference, FileTarget};
use crate::service::ContainerSpec;

/// Why a content with placeholders cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// It is not text.
    #[error(
        "what has placeholders is text in UTF-8; make one that is delivered as it is without --template-driver"
    )]
    NotText,
    /// A placeholder is wrong.
    #[error(transparent)]
    Placeholder(#[from] TemplateError),
}

/// Reads the content of a secret or a config.
///
/// # Errors
/// If it is no text, or a placeholder is not closed or not known.
pub fn of_content(kind: FileKind, data: &[u8]) -> Result<Template, ContentError> {
    let text = std::str::from_utf8(data).map_err(|_| ContentError::NotText)?;
    Template::parse(text, Words::File).map_err(|error| match kind {
        FileKind::Secret => error.without_text().into(),
        FileKind::Config => error.into(),
    })
}

/// The secret or config that a content calls by this name, among those that its service is given: the one whose target has the
/// name, as in Swarm, or else the one that has it itself.
#[must_use]
pub fn called<'a>(files: &'a [FileReference], kind: FileKind, name: &str) -> Option<&'a FileReference> {
    let has_target = |reference: &&FileReference| matches!(&reference.target, FileTarget::File { path, .. } if path == name);
    let of_kind = || files.iter().filter(|reference| reference.kind == kind);
    of_kind().find(has_target).or_else(|| of_kind().find(|reference| reference.name.as_str() == name))
}

/// The value of a variable that a container is given by `--env`.
#[must_use]
pub fn variable<'a>(container: &'a ContainerSpec, name: &str) -> Option<&'a str> {
    let pairs = container.env.iter().rev().filter_map(|entry| entry.split_once('='));
    pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// What a content asks for and the service does not give, in words; nothing when all is there.
#[must_use]
pub fn missing(template: &Template, container: &ContainerSpec) -> Option<String> {
    template.placeholders().find_map(|placeholder| match placeholder {
        Placeholder::Secret(name) if called(&container.files, FileKind::Secret, name).is_none() => {
            Some(format!("{{{{secret {name:?}}}}}: the service is not given it; add --secret {name}"))
        }
        Placeholder::Config(name) if called(&container.files, FileKind::Config, name).is_none() => {
            Some(format!("{{{{config {name:?}}}}}: the service is not given it; add --config {name}"))
        }
        Placeholder::Variable(name) if variable(container, name).is_none() => {
            Some(format!("{{{{env {name:?}}}}}: the service has no such variable; add --env {name}=VALUE"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::id::FileId;
    use crate::service::PinnedImage;

    fn reference(kind: FileKind, name: &str, path: &str) -> FileReference {
        let target = FileTarget::File { path: path.to_owned(), uid: 0, gid: 0, mode: 0o444 };
        FileReference {
            kind,
            name: name.parse().unwrap(),
            file: FileId::from_bits(1),
            content: 1,
            pinned: false,
            target,
        }
    }

    #[test]
    fn a_target_goes_before_a_name() {
        let files = [
            reference(FileKind::Config, "a", "a"),
            reference(FileKind::Secret, "a", "b"),
            reference(FileKind::Secret, "b", "/etc/c"),
        ];
        let path = |name| called(&files, FileKind::Secret, name).and_then(FileReference::path);
        assert_eq!(path("b").as_deref(), Some("/run/secrets/b"));
        assert_eq!(path("a").as_deref(), Some("/run/secrets/b"));
        assert_eq!(path("/etc/c").as_deref(), Some("/etc/c"));
        assert_eq!(path("c"), None);
        assert_eq!(called(&files, FileKind::Config, "b"), None);
    }

    #[test]
    fn what_is_missing_is_told_by_name() {
        let image = PinnedImage { reference: "web:1".to_owned(), digest: Digest::from_bytes([1; 32]) };
        let mut container = ContainerSpec::of(image);
        container.files = vec![reference(FileKind::Secret, "key", "key")];
        container.env = vec!["A=1".to_owned(), "B".to_owned(), "A=2".to_owned()];
        assert_eq!(variable(&container, "A"), Some("2"));
        let told = |text: &str| {
            let template = of_content(FileKind::Config, text.as_bytes()).unwrap();
            missing(&template, &container).unwrap_or_default()
        };
        assert_eq!(told("{{secret \"key\"}}{{env \"A\"}}{{.Task.ID}}"), "");
        for (text, expected) in [
            ("{{secret \"k\"}}", "{{secret \"k\"}}: the service is not given it; add --secret k"),
            ("{{config \"key\"}}", "{{config \"key\"}}: the service is not given it; add --config key"),
            ("{{env \"B\"}}", "{{env \"B\"}}: the service has no such variable; add --env B=VALUE"),
        ] {
            assert_eq!(told(text), expected);
        }
    }

    #[test]
    fn messages_hold_nothing_of_a_secret() {
        let told = |kind, data: &[u8]| of_content(kind, data).unwrap_err().to_string();
        assert!(told(FileKind::Config, b"{{canary}}").contains("canary"));
        let secret = told(FileKind::Secret, b"canary\n {{canary}}");
        assert!(secret.starts_with("at line 2, character 2: what stands there is not known"), "{secret}");
        assert!(!secret.contains("canary"));
        assert_eq!(
            told(FileKind::Secret, b"\xff"),
            "what has placeholders is text in UTF-8; make one that is delivered as it is without --template-driver"
        );
    }
}
