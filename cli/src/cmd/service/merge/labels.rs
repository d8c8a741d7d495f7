//! Labels, by their key.

use std::collections::HashMap;

use crate::opt::label::Label;

/// Removes the labels named in `remove` and adds or replaces those of `add`; the last one wins.
pub(crate) fn merge(
    current: HashMap<String, String>,
    add: &[Label],
    remove: &[String],
) -> HashMap<String, String> {
    let mut merged = current;
    merged.retain(|key, _| !remove.contains(key));
    merged.extend(add.iter().map(|label| (label.key.clone(), label.value.clone())));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opt::label;

    #[test]
    fn labels_are_merged_by_key() {
        let table: [[&[&str]; 4]; 5] = [
            [&["a=1"], &["b=2"], &[], &["a=1", "b=2"]],
            [&["a=1"], &["a=2"], &[], &["a=2"]],
            [&["a=1", "b=2"], &[], &["a", "nope"], &["b=2"]],
            [&["a=1"], &["a=2"], &["a"], &["a=2"]],
            [&[], &["a=1", "a=2"], &[], &["a=2"]],
        ];
        let labels = |texts: &[&str]| {
            texts.iter().map(|text| label::parse("label", text).unwrap()).collect::<Vec<_>>()
        };
        let map =
            |texts: &[&str]| labels(texts).into_iter().map(|l| (l.key, l.value)).collect::<HashMap<_, _>>();
        for [current, add, remove, expected] in table {
            let remove: Vec<_> = remove.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(merge(map(current), &labels(add), &remove), map(expected), "{current:?} + {add:?}");
        }
    }
}
