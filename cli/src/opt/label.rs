//! Labels: `KEY=VALUE`, or `KEY` with an empty value.

use super::FlagError;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// Not empty, without white space.
    pub key: String,
    /// May be empty.
    pub value: String,
}

/// Reads a label for the flag `field`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(field: &str, text: &str) -> Result<Label, FlagError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(FlagError::new(
            field,
            text,
            "use KEY=VALUE, where KEY is not empty and has no white space",
        ));
    }
    Ok(Label { key: key.to_owned(), value: value.to_owned() })
}

/// A parser for clap.
pub(crate) fn parser(
    field: &'static str,
) -> impl Fn(&str) -> Result<Label, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(field, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_key() {
        let label = |key: &str, value: &str| Label { key: key.to_owned(), value: value.to_owned() };
        assert_eq!(parse("label", "a=b"), Ok(label("a", "b")));
        assert_eq!(parse("label", "a"), Ok(label("a", "")));
        assert_eq!(parse("label", "a=b=c"), Ok(label("a", "b=c")));
        for text in ["", "=b", "a b=c"] {
            let error = parse("label", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("label: invalid value {text:?}: use KEY=VALUE")), "{error}");
        }
    }
}
