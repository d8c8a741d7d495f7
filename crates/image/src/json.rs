//! Strict JSON: bounded in size, no duplicate keys anywhere, nothing after the document.
//!
//! Two parsers that disagree about which of two equal keys counts would see two different images under one digest.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{ImageError, LimitKind};
use crate::limits::Limits;

/// Reads `bytes` as `T`; `document` names it in errors.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    document: &str,
    limits: &Limits,
) -> Result<T, ImageError> {
    if bytes.len() as u64 > limits.document_bytes {
        return Err(ImageError::limit(document, LimitKind::DocumentBytes, limits.document_bytes));
    }
    let invalid = |error: serde_json::Error| ImageError::document(document, error.to_string());
    serde_json::from_slice::<UniqueKeys>(bytes).map_err(invalid)?;
    serde_json::from_slice(bytes).map_err(invalid)
}

/// Accepts any JSON value whose objects have no key twice; keeps nothing. Depth is bounded by serde_json (128).
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<UniqueKeys, A::Error> {
        while sequence.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<UniqueKeys>()?;
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format!("key {key:?} appears twice in one object")));
            }
        }
        Ok(UniqueKeys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<serde_json::Value, String> {
        parse(text.as_bytes(), "test document", &Limits { document_bytes: 200, ..Limits::default() })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn strictness() {
        assert!(check(r#"{"a":{"b":[1,-2,3.5,"x",null,true]},"b":{}}"#).is_ok());
        assert!(check(r#"{"a":1,"a":2}"#).unwrap_err().contains("\"a\" appears twice"));
        assert!(check(r#"{"x":[{"a":1,"\u0061":2}]}"#).unwrap_err().contains("\"a\" appears twice"));
        assert!(check("{} {}").unwrap_err().contains("trailing"));
        assert!(check("").unwrap_err().contains("EOF"));
        assert!(check(&"[".repeat(190)).unwrap_err().contains("recursion"));
        assert!(check(&" ".repeat(300)).unwrap_err().contains("limit of 200 bytes in a JSON document"));
    }
}
