//! Whole numbers within bounds.

use coracle_model::validate::REPLICAS_LIMIT;

use super::FlagError;

/// Reads a whole number from 0 to `most` for the flag `field`.
///
/// # Errors
/// Names the flag, the value and the bounds.
pub(crate) fn parse(field: &str, text: &str, most: u64) -> Result<u64, FlagError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { text.parse::<u64>().ok() } else { None };
    let problem = if most == u64::MAX {
        "use a whole number, 0 or more".to_owned()
    } else {
        format!("use a whole number from 0 to {most}")
    };
    number.filter(|number| *number <= most).ok_or_else(|| FlagError::new(field, text, problem))
}

/// A parser for clap.
pub(crate) fn parser(
    field: &'static str,
) -> impl Fn(&str) -> Result<u64, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(field, text, u64::MAX)
}

/// Reads how many tasks a service shall have.
///
/// # Errors
/// Names the value and the bounds.
pub(crate) fn replicas(text: &str) -> Result<u64, FlagError> {
    parse("replicas", text, REPLICAS_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_whole_and_possible() {
        assert_eq!(replicas("0"), Ok(0));
        assert_eq!(replicas("100000"), Ok(100_000));
        for text in ["-1", "", "1.5", "+1", "100001", "99999999999999999999", "many"] {
            let error = replicas(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("replicas: invalid value {text:?}: use a whole number from 0 to 100000")
            );
        }
    }
}
