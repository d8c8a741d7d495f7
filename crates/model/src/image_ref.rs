//! References to images as people write them: `busybox`, `registry.example:5000/team/web:2`, `web@sha256:…`.
//!
//! The grammar is the one of the distribution project ("reference" grammar) with Docker's familiar form: a name without a
//! registry means `docker.io`, a single-component name there means `docker.io/library/…`, no tag and no digest means `latest`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::{Digest, DigestError};

/// The registry meant when a name has none.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older name of the default registry that still appears in scripts.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// Where single-component names live in the default registry.
const OFFICIAL_PREFIX: &str = "library/";
/// The tag meant when there is neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Bytes of a name (domain and path) at most, as in the distribution grammar.
const MAXIMUM_NAME: usize = 255;
/// Bytes of a tag at most, as in the distribution grammar.
const MAXIMUM_TAG: usize = 128;

/// A normalised image reference: it always has a domain, and a tag or a digest or both.
///
/// `Display` gives the familiar short form (`busybox:latest`), [`ImageReference::canonical`] the full one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageReferenceError {
    /// Nothing was given.
    #[error("image reference is empty; give a name such as busybox or registry.example/team/web:2")]
    Empty,
    /// The name is longer than registries accept.
    #[error("image name in {value:?} is {length} bytes long; at most 255 are allowed")]
    NameTooLong {
        /// The text as given, shortened when long.
        value: String,
        /// Bytes of domain and path together.
        length: usize,
    },
    /// A path component has characters or separators the grammar does not allow.
    #[error(
        "image reference {value:?} has the invalid path component {component:?}; components are lowercase letters and \
         digits, separated by one '.', one or two '_' or any number of '-'"
    )]
    Component {
        /// The text as given, shortened when long.
        value: String,
        /// The component at fault.
        component: String,
    },
    /// The part before the first slash is not a host name with an optional port.
    #[error(
        "image reference {value:?} has the invalid registry {domain:?}; write host, host:port or [address]:port"
    )]
    Domain {
        /// The text as given, shortened when long.
        value: String,
        /// The registry at fault.
        domain: String,
    },
    /// The tag is empty, too long or has characters the grammar does not allow.
    #[error(
        "image reference {value:?} has the invalid tag {tag:?}; a tag is at most 128 letters, digits, '_', '.' and '-' and \
         does not start with '.' or '-'"
    )]
    Tag {
        /// The text as given, shortened when long.
        value: String,
        /// The tag at fault.
        tag: String,
    },
    /// The part after `@` is not a digest.
    #[error("image reference {value:?} has an invalid digest")]
    Digest {
        /// The text as given, shortened when long.
        value: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The text is a digest, or the name 64 hexadecimal digits, which would be mistaken for an image id.
    #[error(
        "image reference {value:?} looks like an image id; write sha256:… after name@, or choose another name"
    )]
    LooksLikeId {
        /// The text as given.
        value: String,
    },
    /// A digest was given where only a name and a tag make sense.
    #[error(
        "image reference {value:?} has a digest; give only NAME:TAG, the digest is computed from the content"
    )]
    UnexpectedDigest {
        /// The text as given, shortened when long.
        value: String,
    },
}

impl ImageReference {
    /// Reads `NAME` or `NAME:TAG` for a command that gives content a new name; the tag defaults to `latest`.
    ///
    /// # Errors
    /// As [`FromStr`], and when `text` has a digest.
    pub fn parse_tagged(text: &str) -> Result<Self, ImageReferenceError> {
        let reference: Self = text.parse()?;
        if reference.digest.is_some() {
            return Err(ImageReferenceError::UnexpectedDigest { value: shortened(text) });
        }
        Ok(reference)
    }

    /// The registry, with its port when it was given: `docker.io`, `registry.example:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the reference is pinned.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The full name without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short name without tag and digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            // `docker.io/library/a/b` must keep its prefix, or reading the short form would give another path.
            Some(official) if !official.contains('/') => official,
            _ => &self.path,
        };
        let looks_like_id = Digest::from_hex(short).is_ok() || short == Digest::ALGORITHM;
        let reads_back = split_domain(short) == (DEFAULT_DOMAIN, short) && !looks_like_id;
        if reads_back { short.to_owned() } else { self.name() }
    }

    /// The full form, for storing and for registries: `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        self.name() + &self.suffix()
    }

    /// The same name and tag pinned to `digest`.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same name by tag only; the default tag when there was none.
    pub fn without_digest(&self) -> Self {
        let tag = self.tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned());
        Self { tag: Some(tag), digest: None, ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        if text.is_empty() {
            return Err(ImageReferenceError::Empty);
        }
        let value = || shortened(text);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ImageReferenceError::Digest { value: value(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ImageReferenceError::Tag { value: value(), tag: shortened(tag) });
        }
        if Digest::from_hex(name).is_ok() || text.parse::<Digest>().is_ok() {
            return Err(ImageReferenceError::LooksLikeId { value: value() });
        }
        let (domain, path) = split_domain(name);
        if !is_domain(domain) {
            return Err(ImageReferenceError::Domain { value: value(), domain: shortened(domain) });
        }
        if let Some(component) = path.split('/').find(|component| !is_path_component(component)) {
            return Err(ImageReferenceError::Component { value: value(), component: shortened(component) });
        }
        let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official { format!("{OFFICIAL_PREFIX}{path}") } else { path.to_owned() };
        let length = domain.len() + 1 + path.len();
        if length > MAXIMUM_NAME {
            return Err(ImageReferenceError::NameTooLong { value: value(), length });
        }
        let default_tag = digest.is_none().then_some(DEFAULT_TAG);
        let tag = tag.or(default_tag).map(str::to_owned);
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.familiar_name(), self.suffix())
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.canonical())
    }
}

/// Splits at the last colon after the last slash, so that the port of a registry is not taken for a tag.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The part before the first slash is a registry only when it could not be a path component, or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.contains(|letter: char| letter.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return false,
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, port)
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let host_is_valid = host.is_none_or(|host| host.split('.').all(is_host_label));
    let port_is_valid =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    host_is_valid && port_is_valid
}

fn is_host_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        }
        _ => false,
    }
}

/// `alphanumeric (separator alphanumeric)*` with the separators `.`, `_`, `__` and any run of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words =
        bytes.first().is_some_and(|byte| is_word(*byte)) && bytes.last().is_some_and(|byte| is_word(*byte));
    ends_are_words
        && bytes.split(|byte| is_word(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let bytes = tag.as_bytes();
    bytes.first().is_some_and(is_word)
        && bytes.len() <= MAXIMUM_TAG
        && bytes.iter().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Keeps a hostile value from filling a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 96;
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests;
