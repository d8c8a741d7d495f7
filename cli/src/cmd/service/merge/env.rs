//! Variables of the environment, by their key.

/// Removes the variables named in `remove` and adds or replaces those of `add` (`KEY=VALUE`); the last one wins.
pub(crate) fn merge(current: &[String], add: &[String], remove: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = current
        .iter()
        .filter(|variable| !remove.iter().any(|name| key(variable) == key(name)))
        .cloned()
        .collect();
    for variable in add {
        match merged.iter_mut().find(|known| key(known) == key(variable)) {
            Some(known) => known.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

fn key(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_merged_by_key() {
        let table: [[&[&str]; 4]; 8] = [
            [&[], &[], &[], &[]],
            [&["A=1"], &["B=2"], &[], &["A=1", "B=2"]],
            [&["A=1", "B=2"], &["A=3"], &[], &["A=3", "B=2"]],
            [&["A=1", "B=2"], &[], &["A"], &["B=2"]],
            [&["A=1", "B=2"], &["A=3"], &["A"], &["B=2", "A=3"]],
            [&["A=1"], &[], &["A=ignored", "nope"], &[]],
            [&[], &["A=1", "A=2"], &[], &["A=2"]],
            [&["AB=1"], &[], &["A"], &["AB=1"]],
        ];
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for [current, add, remove, expected] in table {
            let merged = merge(&owned(current), &owned(add), &owned(remove));
            assert_eq!(merged, owned(expected), "{current:?} + {add:?} - {remove:?}");
        }
    }
}
