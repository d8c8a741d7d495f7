//! Processor shares: `0.5`, `2`, with up to nine digits after the point.

use super::FlagError;
use super::bytes::scaled;

const NANOS: u64 = 1_000_000_000;

/// Reads a number of processors for the flag `field`, in billionths of one.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(field: &str, text: &str) -> Result<u64, FlagError> {
    let refuse = || FlagError::new(field, text, "use a number of processors, such as 0.5 or 2");
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 9) {
        return Err(FlagError::new(field, text, "at most nine digits after the point are possible"));
    }
    scaled(text, NANOS).ok_or_else(refuse)
}

/// A parser for clap.
pub(crate) fn parser(
    field: &'static str,
) -> impl Fn(&str) -> Result<u64, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(field, text)
}

/// The shortest text that reads back as the same share.
pub(crate) fn render(nanos: u64) -> String {
    let (whole, fraction) = (nanos / NANOS, nanos % NANOS);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:09}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_exact() {
        for (text, nanos) in
            [("1", NANOS), ("0.5", NANOS / 2), (".001", 1_000_000), ("0.1", 100_000_000), ("0", 0)]
        {
            assert_eq!(parse("limit-cpu", text), Ok(nanos));
        }
    }

    #[test]
    fn refusals_name_flag_and_value() {
        for text in ["", "-1", "a", "1.0000000001", "1,5", "0x1", "99999999999999"] {
            let error = parse("limit-cpu", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("limit-cpu: invalid value {text:?}: ")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos: u64) {
            prop_assert_eq!(parse("x", &render(nanos)), Ok(nanos));
        }
    }
}
