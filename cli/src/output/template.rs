//! Templates like Docker's: `{{.ID}}: {{.Spec.Name}}`, `{{json .}}`, `{{json .Spec}}`.
//!
//! A small part of Go's language: fields by path, `json`, entries of maps (`{{index .Labels "KEY"}}`, in lists also
//! `{{.Label "KEY"}}`), and `\t` and `\n` in the text. Names of fields are compared without regard to case and underscores, so
//! that both Docker's and JSON's spellings do; keys of maps are taken as they are. Where Docker has other names, these do too
//! ([`docker`]).

pub(crate) mod docker;
mod lookup;

use serde_json::Value;

use docker::Names;
use lookup::lookup;

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field {
        path: Vec<String>,
        json: bool,
    },
    /// An entry of a map; empty where there is none, as in Go.
    Entry {
        path: Vec<String>,
        key: String,
    },
}

/// Why a text is no template, or one that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// A `{{` without `}}`.
    #[error("format: invalid value {0:?}: a {{{{ is not closed with }}}}")]
    Unclosed(String),
    /// Something between `{{` and `}}` that is not understood.
    #[error(
        "format: invalid value {0:?}: use {{{{.Field}}}}, {{{{json .Field}}}} or {{{{index .Field \"KEY\"}}}}; \
         for more, give what --format json writes to a program such as jq"
    )]
    Action(String),
    /// No such field.
    #[error("format: unknown field {name:?}; {meant}{known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Which field is probably meant, as a question; empty when none is.
        meant: String,
        /// What there is.
        known: String,
    },
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (action, next) =
                after.split_once("}}").ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
            parts.push(field(action).ok_or_else(|| TemplateError::Action(format!("{{{{{action}}}}}")))?);
            rest = next;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self { parts })
    }
}

fn field(action: &str) -> Option<Part> {
    let action = action.trim();
    if let Some((path, key)) = action.strip_suffix('"').and_then(|action| action.split_once('"')) {
        let path = path.trim();
        let path = path.strip_prefix("index ").or((path == ".Label").then_some(path))?;
        return Some(Part::Entry { path: names(path.trim())?, key: key.to_owned() });
    }
    let (json, path) = match action.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, action),
    };
    Some(Part::Field { path: names(path)?, json })
}

/// `.Spec.Name` as names; nothing for another text.
fn names(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('.')?;
    let named =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "_-/".contains(c));
    let path: Vec<_> =
        if path.is_empty() { Vec::new() } else { path.split('.').map(str::to_owned).collect() };
    path.iter().all(|part| named(part)).then_some(path)
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// The name as it is compared.
pub(crate) fn normal(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

impl Template {
    /// The text for one object.
    ///
    /// # Errors
    /// When the object has no such field.
    pub(crate) fn render(&self, object: &Value) -> Result<String, TemplateError> {
        self.render_with(object, &[])
    }

    /// The same, where these names of Docker's do too.
    ///
    /// # Errors
    /// When the object has no such field.
    pub(crate) fn render_with(&self, object: &Value, names: Names) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field { path, json } => {
                    let value = lookup(object, path, names)?;
                    match value {
                        Value::String(string) if !json => text.push_str(&super::printable(string)),
                        Value::Null if !json => {}
                        other => text.push_str(&other.to_string()),
                    }
                }
                Part::Entry { path, key } => match lookup(object, path, names)?.get(key) {
                    Some(Value::String(string)) => text.push_str(&super::printable(string)),
                    None | Some(Value::Null) => {}
                    Some(other) => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(text)
    }

    /// The names of the fields, for the header of a table.
    pub(crate) fn headers(&self, header: impl Fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(literal) => literal.clone(),
            Part::Field { path, .. } => header(path.last().map_or("", String::as_str)),
            Part::Entry { key, .. } => key.clone(),
        };
        self.parts.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str) -> Result<String, TemplateError> {
        let object = json!({"id": "abc", "spec": {"name": "web", "force_update": 2}, "labels": {"a": "b"}, "none": null});
        template.parse::<Template>()?.render(&object)
    }

    #[test]
    fn fields_are_found_in_both_spellings() {
        assert_eq!(rendered("{{.ID}}\\t{{ .Spec.Name }}!").unwrap(), "abc\tweb!");
        assert_eq!(rendered("{{.Spec.ForceUpdate}}{{.spec.force_update}}{{.None}}").unwrap(), "22");
        assert_eq!(rendered("{{json .Spec.Name}} {{json .labels}}").unwrap(), "\"web\" {\"a\":\"b\"}");
        assert_eq!(rendered("{{index .Labels \"a\"}}-{{ index .labels \"no\" }}").unwrap(), "b-");
        assert!(rendered("{{json .}}").unwrap().starts_with("{\"id\":\"abc\""));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(rendered("{{.ID").unwrap_err().to_string().contains("not closed"));
        assert!(rendered("{{range .X}}").unwrap_err().to_string().contains("use {{.Field}}"));
        let error = rendered("{{.Other}}").unwrap_err().to_string();
        assert_eq!(error, "format: unknown field \"Other\"; there are .id, .labels, .none, .spec");
        assert!(rendered("{{.ID.X}}").is_err());
        for broken in ["{{index .Labels}}", "{{index \"a\"}}", "{{.Name \"a\"}}", "{{\"}}", "{{.Label a}}"] {
            assert!(broken.parse::<Template>().is_err(), "{broken}");
        }
    }
}
