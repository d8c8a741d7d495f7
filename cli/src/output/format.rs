//! The value of `--format`.

use std::str::FromStr;

use super::template::{Template, TemplateError};

/// How a list or an object is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// A table with a header.
    #[default]
    Table,
    /// A table with these columns, separated by `\t`.
    TableOf(Template),
    /// One JSON document.
    Json,
    /// A line for each object.
    Lines(Template),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => match text.strip_prefix("table ") {
                Some(columns) => columns.trim_start().parse().map(Self::TableOf),
                None if text.contains("{{") => text.parse().map(Self::Lines),
                None => Err(TemplateError::Action(text.to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_templates_are_read() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!(matches!("table {{.ID}}\\t{{.Name}}".parse(), Ok(Format::TableOf(_))));
        assert!(matches!("{{.ID}}".parse(), Ok(Format::Lines(_))));
        assert!("yaml".parse::<Format>().is_err());
    }
}
