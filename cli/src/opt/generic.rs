//! A number of something that nodes have: `GPU=2`.

use super::{FlagError, count};

/// One kind and how many of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generic {
    /// Not empty.
    pub kind: String,
    /// At least one.
    pub count: u64,
}

/// Reads the value of `--generic-resource`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<Generic, FlagError> {
    let refuse = || FlagError::new("generic-resource", text, "use KIND=NUMBER, such as GPU=1");
    let (kind, number) = text.split_once('=').ok_or_else(refuse)?;
    let count = count::parse("generic-resource", number, u64::MAX).map_err(|_| refuse())?;
    if kind.is_empty() || kind.contains(char::is_whitespace) || count == 0 {
        return Err(refuse());
    }
    Ok(Generic { kind: kind.to_owned(), count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_a_number() {
        assert_eq!(parse("GPU=2"), Ok(Generic { kind: "GPU".to_owned(), count: 2 }));
        for text in ["GPU", "GPU=", "=1", "GPU=0", "GPU=UUID1", "a b=1"] {
            assert!(parse(text).unwrap_err().to_string().contains("use KIND=NUMBER"), "{text}");
        }
    }
}
