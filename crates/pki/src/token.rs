//! Join tokens: `CRCTKN-1-<digest of the root>-<secret>`.
//!
//! The digest tells the machine that joins which cluster is the right one before it says anything;
//! the secret tells the cluster that the machine may join, and which of the two secrets it is, as what.

use std::fmt;

use coracle_model::role::Role;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base36::{self, Base36Error};
use crate::root::{RootCertificate, RootDigest, RootError};

const PREFIX: &str = "CRCTKN";
const VERSION: &str = "1";
const SECRET_BYTES: usize = 16;
const SECRET_TEXT_LENGTH: usize = 25;
const FORM: &str = "CRCTKN-1-<50 characters>-<25 characters>";

/// Why a text is no join token, or a token is for another cluster. Never holds any of the text:
/// a mistyped token is still almost a secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is a token of Docker Swarm.
    #[error("join token is one of Docker Swarm (SWMTKN-...), a Coracle token looks like {FORM}")]
    DockerSwarm,
    /// The text has another form.
    #[error("join token does not look like {FORM}: copy it whole from 'coracle swarm join-token'")]
    Form,
    /// The version is not known.
    #[error("join token has a version other than {VERSION}: it comes from a newer Coracle, upgrade this one")]
    Version,
    /// The digest is mistyped.
    #[error("join token is mistyped: its digest {0}")]
    Digest(Base36Error),
    /// The secret is mistyped.
    #[error("join token is mistyped: its last part {0}")]
    Secret(Base36Error),
    /// Another root was presented than the token pins.
    #[error(
        "root certificate has digest {presented} but the join token pins {pinned}: the address belongs to another \
         cluster, the cluster's root was rotated since the token was made, or somebody is in between"
    )]
    DigestMismatch {
        /// What the token pins.
        pinned: RootDigest,
        /// What the peer presented.
        presented: RootDigest,
    },
    /// The certificate with the pinned digest is not a root. The token was made by something else.
    #[error("the certificate that the join token pins is not a root certificate")]
    Root(#[source] RootError),
    /// The system gave no randomness.
    #[error("cannot make a join token: the system has no randomness")]
    Randomness,
}

/// The secret part of a join token: 128 random bits. Compared in constant time, wiped when dropped,
/// never shown by `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenSecret([u8; SECRET_BYTES]);

impl TokenSecret {
    /// Draws a new secret from the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TokenError::Randomness)?;
        Ok(Self(bytes))
    }

    /// The secret that these bytes, read from encrypted storage, are.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for encrypted storage.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// Whether the two are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenSecret(redacted)")
    }
}

/// The secrets that a cluster's managers accept, one for each role.
#[derive(Debug, Clone)]
pub struct TokenSecrets {
    /// Who shows this becomes a worker.
    pub worker: TokenSecret,
    /// Who shows this becomes a manager.
    pub manager: TokenSecret,
}

impl TokenSecrets {
    /// Draws a secret for each role.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, TokenError> {
        Ok(Self { worker: TokenSecret::generate()?, manager: TokenSecret::generate()? })
    }

    /// The role that `presented` stands for, or none. Always compares with both.
    pub fn role_of(&self, presented: &TokenSecret) -> Option<Role> {
        let worker = self.worker.matches(presented);
        let manager = self.manager.matches(presented);
        match (worker, manager) {
            (true, false) => Some(Role::Worker),
            (false, true) => Some(Role::Manager),
            // Two equal secrets cannot tell roles apart, so they stand for none.
            (false, false) | (true, true) => None,
        }
    }
}

/// A whole join token.
#[derive(Debug, Clone)]
pub struct JoinToken {
    root: RootDigest,
    secret: TokenSecret,
}

impl JoinToken {
    /// The token for the cluster with this root.
    pub fn new(root: RootDigest, secret: TokenSecret) -> Self {
        Self { root, secret }
    }

    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// If it is none. No error contains any of the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('-');
        match parts.next() {
            Some(PREFIX) => {}
            Some("SWMTKN") => return Err(TokenError::DockerSwarm),
            _ => return Err(TokenError::Form),
        }
        let version = parts.next().ok_or(TokenError::Form)?;
        if version != VERSION {
            let number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            return Err(if number { TokenError::Version } else { TokenError::Form });
        }
        let (Some(digest), Some(secret), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Form);
        };
        let mut root = RootDigest([0; 32]);
        base36::decode(digest, RootDigest::TEXT_LENGTH, &mut root.0).map_err(TokenError::Digest)?;
        let mut bytes = TokenSecret([0; SECRET_BYTES]);
        base36::decode(secret, SECRET_TEXT_LENGTH, &mut bytes.0).map_err(TokenError::Secret)?;
        Ok(Self { root, secret: bytes })
    }

    /// The text that an operator copies. It is the secret: never log it.
    pub fn expose(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(base36::encode(&self.secret.0, SECRET_TEXT_LENGTH));
        Zeroizing::new(format!("{PREFIX}-{VERSION}-{}-{}", self.root, *secret))
    }

    /// The digest of the root that this token pins.
    pub fn root_digest(&self) -> RootDigest {
        self.root
    }

    /// The secret part.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }

    /// The root certificate that an untrusted peer presented, if it is the one this token pins.
    /// Call this before the secret is sent anywhere, and then trust only the result.
    ///
    /// # Errors
    /// If it is another one.
    pub fn verify_root_digest(&self, presented: &[u8]) -> Result<RootCertificate, TokenError> {
        let digest = RootDigest::of(presented);
        if digest != self.root {
            return Err(TokenError::DigestMismatch { pinned: self.root, presented: digest });
        }
        RootCertificate::from_der(presented).map_err(TokenError::Root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, chain_text};
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::new(RootDigest([3; 32]), TokenSecret::from_bytes([7; 16]))
    }

    #[test]
    fn the_text_form_is_fixed() {
        let text = token().expose();
        assert_eq!(text.len(), "CRCTKN-1-".len() + 50 + 1 + 25);
        assert!(text.starts_with("CRCTKN-1-"));
        let read = JoinToken::parse(&format!(" {}\n", *text)).unwrap();
        assert_eq!(read.root_digest(), token().root_digest());
        assert!(read.secret().matches(token().secret()));
    }

    #[test]
    fn errors_never_contain_the_secret() {
        let text = token().expose().to_string();
        let secret = text.rsplit('-').next().unwrap().to_owned();
        let wrong = [
            text.replace("CRCTKN", "XXX"),
            text.replace("CRCTKN-1", "CRCTKN-2"),
            text.replace("CRCTKN-1", "CRCTKN-x"),
            text.replace("CRCTKN", "SWMTKN"),
            format!("{text}-more"),
            format!("{text}0"),
            text.replace(&secret, &secret.to_uppercase()),
            text.replacen("-1-", "-1-0", 1),
            secret.clone(),
        ];
        for text in wrong {
            let error = JoinToken::parse(&text).unwrap_err();
            let shown = format!("{} {error:?}", chain_text(&error)).to_lowercase();
            assert!(!shown.contains(&secret), "{shown}");
        }
        assert!(!format!("{:?}", token()).contains(&secret));
    }

    #[test]
    fn errors_say_what_to_do() {
        let say = |text: &str| JoinToken::parse(text).unwrap_err().to_string();
        assert!(say("SWMTKN-1-a-b").contains("Docker Swarm"));
        assert!(say("CRCTKN-9-a-b").contains("newer"));
        assert!(say("hello").contains("join-token"));
        let mut text = token().expose().to_string();
        text.pop();
        assert!(say(&text).contains("24 characters instead of 25"), "{}", say(&text));
    }

    #[test]
    fn the_secret_decides_the_role() {
        let secrets = TokenSecrets::generate().unwrap();
        assert_eq!(secrets.role_of(&secrets.worker), Some(Role::Worker));
        assert_eq!(secrets.role_of(&secrets.manager), Some(Role::Manager));
        assert_eq!(secrets.role_of(&TokenSecret::generate().unwrap()), None);
        let equal = TokenSecrets { worker: secrets.worker.clone(), manager: secrets.worker.clone() };
        assert_eq!(equal.role_of(&secrets.worker), None);
    }

    #[test]
    fn only_the_pinned_root_is_accepted() {
        let ours = World::new(1);
        let foreign = World::new(1);
        let token = JoinToken::new(ours.root.digest(), TokenSecret::generate().unwrap());
        assert_eq!(token.verify_root_digest(ours.root.der()).unwrap(), ours.root);
        let error = token.verify_root_digest(foreign.root.der()).unwrap_err();
        assert!(matches!(error, TokenError::DigestMismatch { .. }));
        assert!(error.to_string().contains(&ours.root.digest().to_string()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(CRCTKN-1-)?[0-9a-zA-Z\\-]{0,90}") {
            if let Ok(token) = JoinToken::parse(&text) {
                prop_assert_eq!(&*token.expose(), &text);
            }
        }
    }
}
