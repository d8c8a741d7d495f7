//! The YAML of a CDI file as the JSON that it stands for: one document of maps, lists and scalars.
//!
//! Read event by event, without recursion and without aliases and tags, so that a file takes no more than its length.

use serde_json::{Map, Value};
use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::TScalarStyle;

/// Maps and lists within each other; those of the CDI specification are far fewer.
const DEEPEST: usize = 32;

/// A map or a list that is being read.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

impl Open {
    fn close(self) -> Value {
        match self {
            Self::List(entries) => Value::Array(entries),
            Self::Map(entries, _) => Value::Object(entries),
        }
    }

    fn take(&mut self, value: Value) -> Result<(), &'static str> {
        match self {
            Self::List(entries) => entries.push(value),
            Self::Map(entries, key) => match (key.take(), value) {
                (Some(key), value) => {
                    if entries.insert(key, value).is_some() {
                        return Err("a key is there twice");
                    }
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, _) => return Err("a key is not text"),
            },
        }
        Ok(())
    }
}

/// Reads the only document of a file.
///
/// # Errors
/// Where it is no YAML, or more than is read here: for the operator.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut document = None;
    loop {
        let (event, place) = parser.next_token().map_err(|error| error.to_string())?;
        let refuse = |why: &str| format!("line {}: {why}", place.line());
        let complete = match event {
            Event::StreamEnd => return document.ok_or_else(|| "it is empty".to_owned()),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => None,
            Event::Alias(_) => return Err(refuse("aliases are not read")),
            Event::Scalar(.., Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(refuse("tags are not read"));
            }
            Event::Scalar(text, style, ..) => Some(scalar(text, style)),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEEPEST => {
                return Err(refuse("too many maps and lists within each other"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(Open::close),
        };
        match (complete, open.last_mut()) {
            (None, _) => {}
            (Some(value), Some(place)) => place.take(value).map_err(refuse)?,
            (Some(value), None) if document.is_none() => document = Some(value),
            (Some(_), None) => return Err(refuse("a second document begins")),
        }
    }
}

/// What is not in quotes may be something else than text (YAML 1.2, core schema).
fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        number => match (number.parse::<i64>(), number.parse::<f64>()) {
            (Ok(whole), _) => whole.into(),
            // Rust reads words as numbers that JSON does not have.
            (_, Ok(real)) if real.is_finite() => real.into(),
            _ => Value::String(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn documents_become_json() {
        let text = "---\nkind: vendor.com/card # a comment\nversion: 0.6.0\nnumbers: [1, -2, 1.5, \"3\"]\nnone: ~\nyes: true\n\
                    devices:\n- name: '0'\n  env:\n    - A=b\n- {name: x, long: |\n  text\n  }\n";
        let text = text.replace(", long: |\n  text\n  }", "}");
        let expected = json!({
            "kind": "vendor.com/card", "version": "0.6.0", "numbers": [1, -2, 1.5, "3"], "none": null, "yes": true,
            "devices": [{"name": "0", "env": ["A=b"]}, {"name": "x"}],
        });
        assert_eq!(value(&text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_line() {
        for (text, why) in [
            ("", "it is empty"),
            ("a: &x 1\nb: *x\n", "line 2: aliases are not read"),
            ("a: !!str 1\n", "line 1: tags are not read"),
            ("a: 1\na: 2\n", "line 2: a key is there twice"),
            ("1: 2\n", "line 1: a key is not text"),
            ("a: 1\n---\nb: 2\n", "a second document begins"),
            ("a: [1\n", "line"),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let deep = value(&format!("{}{}", "[".repeat(40), "]".repeat(40))).unwrap_err();
        assert!(deep.contains("within each other"), "{deep}");
        value(&"[".repeat(100_000)).unwrap_err();
        // Each of ten lines stands for ten times the one before it.
        let mut bomb = "a0: &a0 [x]\n".to_owned();
        (1..10).for_each(|n| {
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")))
        });
        assert!(value(&bomb).unwrap_err().contains("aliases"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-a-c:\\[\\]{},&*!|>#'\" \n]{0,40}") {
            let _ = value(&text);
        }

        #[test]
        fn json_is_yaml(entries in proptest::collection::btree_map("[a-z]{1,5}", "[ -~]{0,8}", 0..5)) {
            let text = serde_json::to_string(&entries).unwrap();
            prop_assert_eq!(value(&text).unwrap(), serde_json::to_value(&entries).unwrap());
        }
    }
}
