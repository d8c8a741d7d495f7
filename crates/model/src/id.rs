//! Identifiers: 128 random bits, written as 25 characters of base 36 as Docker does.

use std::fmt;
use std::str::FromStr;

/// Characters in the text form of an identifier: the least count of base 36 digits that holds 128 bits.
pub const TEXT_LENGTH: usize = 25;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} id {text:?}: an id is {TEXT_LENGTH} characters of 0-9 and a-z")]
pub struct IdError {
    kind: &'static str,
    text: String,
}

fn render(mut value: u128) -> [u8; TEXT_LENGTH] {
    let mut text = [b'0'; TEXT_LENGTH];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(value % 36) as usize];
        value /= 36;
    }
    text
}

fn parse(text: &str) -> Option<u128> {
    if text.len() != TEXT_LENGTH {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        value.checked_mul(36)?.checked_add(u128::from(digit))
    })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The word for this kind of object in messages.
            pub const KIND: &'static str = $kind;

            /// Makes an identifier of 128 bits that the caller drew at random.
            #[must_use]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            #[must_use]
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = render(self.0);
                f.pad(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self).ok_or_else(|| IdError { kind: $kind, text: text.to_owned() })
            }
        }
    )*};
}

ids! {
    /// One cluster.
    ClusterId = "cluster";
    /// One machine of the cluster; also the common name of its certificate.
    NodeId = "node";
    /// One service.
    ServiceId = "service";
    /// One task: one attempt at one container.
    TaskId = "task";
    /// One secret or config.
    FileId = "secret or config";
    /// One connection of an agent to a manager.
    SessionId = "session";
    /// A client's mark on a write, so that a retry is recognised.
    IdempotencyKey = "idempotency key";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bits: u128) {
            let id = TaskId::from_bits(bits);
            prop_assert_eq!(id.to_string().len(), TEXT_LENGTH);
            prop_assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            let _ = text.parse::<NodeId>();
        }
    }

    #[test]
    fn a_text_beyond_128_bits_is_refused() {
        let error = "zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<NodeId>().unwrap_err();
        assert!(error.to_string().contains("invalid node id"), "{error}");
    }

    #[test]
    fn order_of_text_is_order_of_bits() {
        assert!(TaskId::from_bits(35).to_string() < TaskId::from_bits(36).to_string());
    }
}
