//! Content digests: the names under which images, their configurations and their layers are stored and fetched.
//!
//! Only SHA-256 is accepted (OCI image specification, "Digests", makes it the one algorithm every implementation has).
//! The model holds the value and its text form; whoever reads bytes computes it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The SHA-256 digest of some content. Text form: `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest {value:?} has no algorithm; write it as sha256:<64 hexadecimal digits>")]
    NoAlgorithm {
        /// The text as given, shortened when long.
        value: String,
    },
    /// The algorithm is not SHA-256.
    #[error("digest algorithm {algorithm:?} is not supported; only sha256 is")]
    Algorithm {
        /// The text before the colon, shortened when long.
        algorithm: String,
    },
    /// What follows the colon is not 64 lowercase hexadecimal digits.
    #[error("digest {value:?} does not have 64 lowercase hexadecimal digits after sha256:")]
    Hex {
        /// The text as given, shortened when long.
        value: String,
    },
}

impl Digest {
    /// The name of the one algorithm.
    pub const ALGORITHM: &'static str = "sha256";

    /// The digest whose 32 bytes were computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the algorithm, as used for file names.
    pub fn hex(&self) -> String {
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The first twelve hexadecimal digits, for tables.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// Reads the 64 hexadecimal digits without the algorithm.
    ///
    /// # Errors
    /// When `hex` is not exactly 64 lowercase hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError::Hex { value: shortened(hex) };
        let text = hex.as_bytes();
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (value(pair[0]).ok_or_else(wrong)?, value(pair[1]).ok_or_else(wrong)?);
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) =
            text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm { value: shortened(text) })?;
        if algorithm != Self::ALGORITHM {
            return Err(DigestError::Algorithm { algorithm: shortened(algorithm) });
        }
        Self::from_hex(hex).map_err(|_| DigestError::Hex { value: shortened(text) })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", Self::ALGORITHM, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn digit(value: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(value & 15)])
}

/// The value of one digit; uppercase is refused so that one content has one name.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            prop_assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
            prop_assert!(digest.hex().starts_with(&digest.short()));
        }

        #[test]
        fn reading_never_panics(text: String) {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let hex = "a".repeat(64);
        let message = |text: &str| text.parse::<Digest>().unwrap_err().to_string();
        assert!(message(&hex).contains("no algorithm"));
        assert!(message(&format!("sha512:{hex}")).contains("\"sha512\" is not supported"));
        assert!(message("sha256:abc").contains("64 lowercase"));
        assert!(message(&format!("sha256:{}", hex.to_uppercase())).contains("64 lowercase"));
        assert!(message(&format!("sha256:{hex}0")).contains("64 lowercase"));
        assert!(message(&format!("SHA256:{hex}")).contains("not supported"));
        assert!(message(&"x".repeat(10_000)).len() < 400);
    }
}
