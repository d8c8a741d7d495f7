//! Lists whose entries are known by a part of them.

/// Removes the entries that `gone` names, and adds those of `add`, each in the place of the entry that is the `same`.
pub(crate) fn merge<T: Clone>(
    current: Vec<T>,
    add: &[T],
    gone: impl Fn(&T) -> bool,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let mut merged = current;
    merged.retain(|entry| !gone(entry));
    for entry in add {
        match merged.iter_mut().find(|known| same(known, entry)) {
            Some(known) => known.clone_from(entry),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

/// Plain texts, each once.
pub(crate) fn texts(current: Vec<String>, add: &[String], remove: &[String]) -> Vec<String> {
    merge(current, add, |text| remove.contains(text), |known, text| known == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_in_order() {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let merged = texts(owned(&["a", "b"]), &owned(&["c", "b", "c"]), &owned(&["a", "z"]));
        assert_eq!(merged, ["b", "c"]);
    }
}
