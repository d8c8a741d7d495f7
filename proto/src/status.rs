//! The one map from refusals to gRPC statuses and back.
//!
//! A status carries, besides its code and message, the [`Reason`] in `coracle-reason` and what would help in
//! `coracle-hint` (percent-encoded, since metadata is ASCII). A status without them, from a proxy or the transport,
//! is read by its code.

use std::fmt;

use coracle_model::validate::Invalid;
use tonic::{Code, Status};

use crate::convert::DecodeError;

const REASON_KEY: &str = "coracle-reason";
const HINT_KEY: &str = "coracle-hint";
/// Longest hint that travels, in bytes before encoding: header lists are limited, and the message matters more.
const HINT_LIMIT: usize = 1024;

/// Why a call was not done: what a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A field has a value that is not accepted.
    Invalid,
    /// There is no such object.
    NotFound,
    /// A name or an id is taken.
    Exists,
    /// The object is another than the writer read: read again and repeat.
    Stale,
    /// A rule forbids it, or the caller may not do it.
    Forbidden,
    /// The caller did not show who it is.
    Unauthenticated,
    /// The caller showed who it is, and is no member of the cluster any more: this manager knows that for sure.
    Removed,
    /// Not now: it was not done, and may be repeated.
    Unavailable,
    /// Another manager leads, or none at the moment: it was not done, and may be repeated.
    NotLeader,
    /// It may have been done or not: repeat with the same idempotency key, or look.
    OutcomeUnknown,
    /// The request is larger than what is accepted.
    TooLarge,
    /// A limit is reached.
    Exhausted,
    /// A fault of Coracle.
    Internal,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::Invalid,
        Self::NotFound,
        Self::Exists,
        Self::Stale,
        Self::Forbidden,
        Self::Unauthenticated,
        Self::Removed,
        Self::Unavailable,
        Self::NotLeader,
        Self::OutcomeUnknown,
        Self::TooLarge,
        Self::Exhausted,
        Self::Internal,
    ];

    /// The word in metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Stale => "stale",
            Self::Forbidden => "forbidden",
            Self::Unauthenticated => "unauthenticated",
            Self::Removed => "removed",
            Self::Unavailable => "unavailable",
            Self::NotLeader => "not-leader",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::TooLarge => "too-large",
            Self::Exhausted => "exhausted",
            Self::Internal => "internal",
        }
    }

    /// The gRPC code that it travels with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Exists => Code::AlreadyExists,
            Self::Stale => Code::Aborted,
            Self::Forbidden => Code::PermissionDenied,
            Self::Unauthenticated | Self::Removed => Code::Unauthenticated,
            Self::Unavailable | Self::NotLeader => Code::Unavailable,
            Self::OutcomeUnknown => Code::DeadlineExceeded,
            Self::TooLarge => Code::OutOfRange,
            Self::Exhausted => Code::ResourceExhausted,
            Self::Internal => Code::Internal,
        }
    }

    /// Whether nothing was done and the same call may succeed later.
    #[must_use]
    pub const fn may_be_repeated(self) -> bool {
        matches!(self, Self::Unavailable | Self::NotLeader)
    }

    /// The reason behind a word in metadata.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// What a status of another origin means; a call that broke off in the middle may have been done.
    const fn from_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::Exists,
            Code::Aborted => Self::Stale,
            Code::PermissionDenied | Code::FailedPrecondition => Self::Forbidden,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Self::OutcomeUnknown,
            Code::OutOfRange => Self::TooLarge,
            Code::ResourceExhausted => Self::Exhausted,
            Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A refusal or failure of a call, as every service of Coracle gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub reason: Reason,
    /// What failed, on which object, and why.
    pub message: String,
    /// What would help, when there is something to say.
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// No object of this kind goes by this name.
    #[must_use]
    pub fn not_found(kind: &str, reference: &str) -> Self {
        Self::new(Reason::NotFound, format!("{kind} {reference:?} not found"))
    }

    /// What a status says; one that did not come from Coracle is read by its code.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let text = |key: &str| status.metadata().get(key).and_then(|value| value.to_str().ok());
        let reason = text(REASON_KEY).and_then(Reason::from_word);
        Self {
            reason: reason.unwrap_or_else(|| Reason::from_code(status.code())),
            message: status.message().to_owned(),
            hint: text(HINT_KEY).map(percent_decode),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut status = Self::new(error.reason.code(), error.message);
        if let Ok(word) = error.reason.as_str().parse() {
            status.metadata_mut().insert(REASON_KEY, word);
        }
        if let Some(hint) = error.hint.as_deref()
            && let Ok(value) = percent_encode(limited(hint)).parse()
        {
            status.metadata_mut().insert(HINT_KEY, value);
        }
        status
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::new(Reason::Invalid, invalid.to_string())
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        Self::new(Reason::Invalid, error.to_string())
    }
}

fn limited(hint: &str) -> &str {
    let end = (0..=hint.len().min(HINT_LIMIT)).rev().find(|at| hint.is_char_boundary(*at)).unwrap_or(0);
    &hint[..end]
}

/// Percent-encoding (RFC 3986 section 2.1) of everything that is not printable ASCII, as gRPC does for messages.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                encoded.push('%');
                encoded.extend(
                    [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
                );
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// The reverse; what is not well-formed stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high << 4 | low));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_error_survives_the_way(at in 0..Reason::ALL.len(), message in ".*", hint in prop::option::of(".{0,200}")) {
            let error = ApiError { reason: Reason::ALL[at], message, hint };
            let status = Status::from(error.clone());
            prop_assert_eq!(status.code(), error.reason.code());
            prop_assert_eq!(ApiError::from_status(&status), error);
        }

        #[test]
        fn decoding_never_fails(text in ".*") {
            let _ = percent_decode(&text);
        }
    }

    #[test]
    fn a_status_of_another_origin_is_read_by_its_code() {
        assert_eq!(ApiError::from_status(&Status::unavailable("x")).reason, Reason::Unavailable);
        assert_eq!(ApiError::from_status(&Status::unknown("x")).reason, Reason::OutcomeUnknown);
        assert_eq!(ApiError::from_status(&Status::unimplemented("x")).reason, Reason::Internal);
    }

    #[test]
    fn a_very_long_hint_is_cut_at_a_character() {
        let error = ApiError::new(Reason::Internal, "x").with_hint("ä".repeat(2000));
        let hint = ApiError::from_status(&Status::from(error)).hint.unwrap();
        assert_eq!(hint, "ä".repeat(HINT_LIMIT / 2));
    }
}
