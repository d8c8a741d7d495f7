//! Variables of the environment: `KEY=VALUE`, or `KEY` to take the value from where the command runs.

use super::FlagError;

/// One variable as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Not empty.
    pub key: String,
    /// None means the value that the command's own environment has.
    pub value: Option<String>,
}

/// Reads the value of `--env`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<Variable, FlagError> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(FlagError::new("env", text, "use KEY=VALUE, or KEY to pass on a variable"));
    }
    Ok(Variable { key: key.to_owned(), value })
}

impl Variable {
    /// `KEY=VALUE`; nothing when the value was to be passed on and there is none.
    pub(crate) fn resolve(&self, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
        let value = self.value.clone().or_else(|| lookup(&self.key))?;
        Some(format!("{}={value}", self.key))
    }
}

/// Resolves all against the environment of this process.
pub(crate) fn resolve_all(variables: &[Variable]) -> Vec<String> {
    variables.iter().filter_map(|variable| variable.resolve(|key| std::env::var(key).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_given_or_passed_on() {
        let lookup = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let resolved = |text: &str| parse(text).unwrap().resolve(lookup);
        assert_eq!(resolved("A=1"), Some("A=1".to_owned()));
        assert_eq!(resolved("A="), Some("A=".to_owned()));
        assert_eq!(resolved("A=b=c"), Some("A=b=c".to_owned()));
        assert_eq!(resolved("HOME"), Some("HOME=/root".to_owned()));
        assert_eq!(resolved("NOPE"), None);
    }

    #[test]
    fn a_variable_has_a_name() {
        for text in ["", "=1"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("env: invalid value {text:?}: use KEY=VALUE")), "{error}");
        }
    }
}
