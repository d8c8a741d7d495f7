//! Filters of lists: `--filter KEY=VALUE`. Values of one key are alternatives; different keys must all hold.

use std::collections::BTreeMap;

use super::FlagError;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

/// Reads the value of `--filter`.
///
/// # Errors
/// When it is not `KEY=VALUE`.
pub(crate) fn parse(text: &str) -> Result<Filter, FlagError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Filter { key: key.to_owned(), value: value.to_owned() }),
        _ => Err(FlagError::new("filter", text, "use KEY=VALUE")),
    }
}

/// All filters of a command.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    wanted: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Takes the filters of a command that knows the keys `known`.
    ///
    /// # Errors
    /// When another key is used.
    pub(crate) fn new(filters: &[Filter], known: &[&str]) -> Result<Self, FlagError> {
        let mut wanted = BTreeMap::<String, Vec<String>>::new();
        for filter in filters {
            if !known.contains(&filter.key.as_str()) {
                let given = format!("{}={}", filter.key, filter.value);
                // What begins so is for Docker's scripts, not for people.
                let shown: Vec<_> = known.iter().copied().filter(|key| !key.starts_with('_')).collect();
                let problem = format!("unknown key {:?}; use {}", filter.key, shown.join(", "));
                return Err(FlagError::new("filter", given, problem));
            }
            wanted.entry(filter.key.clone()).or_default().push(filter.value.clone());
        }
        Ok(Self { wanted })
    }

    /// Looks at every value of `key`.
    ///
    /// # Errors
    /// What `check` finds wrong.
    pub(crate) fn check(
        &self,
        key: &str,
        check: impl Fn(&str) -> Result<(), FlagError>,
    ) -> Result<(), FlagError> {
        self.wanted.get(key).into_iter().flatten().try_for_each(|value| check(value))
    }

    /// Looks at every value of `key`: one of `words`, or of those that are known but not proposed.
    ///
    /// # Errors
    /// When it is another.
    pub(crate) fn check_words(&self, key: &str, words: &[&str], also: &[&str]) -> Result<(), FlagError> {
        self.check(key, |value| {
            if words.contains(&value) || also.contains(&value) {
                return Ok(());
            }
            let proposed = match words {
                [] => String::new(),
                [only] => (*only).to_owned(),
                [first @ .., last] => format!("{} or {last}", first.join(", ")),
            };
            Err(FlagError::new("filter", format!("{key}={value}"), format!("use {proposed}")))
        })
    }

    /// Whether there is a filter on `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.wanted.contains_key(key)
    }

    /// Whether `word` is a value of the filters on `key`.
    pub(crate) fn admits_word(&self, key: &str, word: &str) -> bool {
        self.wanted.get(key).is_some_and(|values| values.iter().any(|value| value == word))
    }

    /// Puts another value in the place of `word` in the filters on `key`.
    pub(crate) fn replace(&mut self, key: &str, word: &str, value: &str) {
        let values = self.wanted.get_mut(key).into_iter().flatten();
        values.filter(|given| *given == word).for_each(|given| value.clone_into(given));
    }

    /// Whether the filters on `key` admit an object, as `holds` says for each value.
    pub(crate) fn admit(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.wanted.get(key).is_none_or(|values| values.iter().any(|value| holds(value)))
    }

    /// Whether the filters on `key` admit these labels: `KEY` or `KEY=VALUE`.
    pub(crate) fn admit_labels<'a>(&self, key: &str, labels: impl Fn(&str) -> Option<&'a String>) -> bool {
        self.admit(key, |wanted| match wanted.split_once('=') {
            Some((label, value)) => labels(label).is_some_and(|actual| actual == value),
            None => labels(wanted).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Filters {
        let filters: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
        Filters::new(&filters, &["name", "label"]).unwrap()
    }

    #[test]
    fn values_of_a_key_are_alternatives() {
        let filters = filters(&["name=a", "name=b", "label=x=1"]);
        assert!(filters.admit("name", |value| value == "b"));
        assert!(!filters.admit("name", |value| value == "c"));
        assert!(filters.admit("id", |_| false));
        let one = "1".to_owned();
        assert!(filters.admit_labels("label", |key| (key == "x").then_some(&one)));
        assert!(!filters.admit_labels("label", |_| None));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_known_ones() {
        let error = Filters::new(&[parse("nme=a").unwrap()], &["name", "label"]).unwrap_err().to_string();
        assert_eq!(error, "filter: invalid value \"nme=a\": unknown key \"nme\"; use name, label");
        assert!(parse("name").is_err());
    }
}
