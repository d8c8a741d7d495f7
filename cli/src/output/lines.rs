//! Objects for people, one thing in a line.

use std::collections::HashMap;

/// Lines of `NAME: VALUE`.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<(&'static str, String)>);

impl Lines {
    /// Unless the value is empty.
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name, value));
        }
    }

    /// A line for each value.
    pub(crate) fn all(&mut self, name: &'static str, values: impl IntoIterator<Item = String>) {
        values.into_iter().for_each(|value| self.add(name, value));
    }

    /// A line `NAME: KEY=VALUE` for each entry, in order.
    pub(crate) fn sorted(&mut self, name: &'static str, map: &HashMap<String, String>) {
        let mut entries: Vec<_> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
        entries.sort();
        self.all(name, entries);
    }

    /// The whole text.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }
}
