//! Values that the model has a grammar for, where the refusal has to name the flag.

use std::str::FromStr;

use super::FlagError;

/// A parser for clap; `problem` says what would be right.
pub(crate) fn parser<T: FromStr>(
    field: &'static str,
    problem: &'static str,
) -> impl Fn(&str) -> Result<T, FlagError> + Clone + Send + Sync + 'static {
    move |text| text.parse().map_err(|_| FlagError::new(field, text, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::rollout::Order;

    #[test]
    fn refusals_name_the_flag() {
        let parse = parser::<Order>("rollback-order", "use stop-first or start-first");
        assert_eq!(parse("start-first"), Ok(Order::StartFirst));
        assert_eq!(
            parse("best-first").unwrap_err().to_string(),
            "rollback-order: invalid value \"best-first\": use stop-first or start-first"
        );
    }
}
