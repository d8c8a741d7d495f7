//! Capabilities: three states each, as Docker has it. Adding one that was dropped only takes back the drop, dropping one
//! that was added only takes back the addition, and adding wins where both are asked for.

use std::collections::BTreeSet;

/// Forgets what was set before.
const RESET: &str = "RESET";

/// What is added and what is dropped from now on.
pub(crate) fn merge(
    mut added: BTreeSet<String>,
    mut dropped: BTreeSet<String>,
    add: &[String],
    drop: &[String],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (add, drop) = (wanted(add, &mut added), wanted(drop, &mut dropped));
    for name in drop.difference(&add) {
        if !added.remove(name) {
            dropped.insert(name.clone());
        }
    }
    for name in add {
        if !dropped.remove(&name) {
            added.insert(name);
        }
    }
    (added, dropped)
}

fn wanted(names: &[String], present: &mut BTreeSet<String>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = names.iter().map(|name| full(name)).collect();
    if names.remove(RESET) {
        present.clear();
    }
    names
}

/// `net_admin` is `CAP_NET_ADMIN`.
fn full(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    if matches!(name.as_str(), "ALL" | RESET) || name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_three_states() {
        type Case = [&'static [&'static str]; 6];
        let table: [Case; 9] = [
            [&[], &[], &["net_admin"], &[], &["CAP_NET_ADMIN"], &[]],
            [&[], &[], &[], &["CAP_CHOWN"], &[], &["CAP_CHOWN"]],
            [&["CAP_CHOWN"], &[], &[], &["chown"], &[], &[]],
            [&[], &["CAP_CHOWN"], &["chown"], &[], &[], &[]],
            [&["CAP_CHOWN"], &[], &["chown"], &["chown"], &["CAP_CHOWN"], &[]],
            [&[], &[], &["kill"], &["kill"], &["CAP_KILL"], &[]],
            [&["CAP_KILL"], &[], &["RESET"], &[], &[], &[]],
            [&["CAP_KILL"], &["ALL"], &["reset", "chown"], &[], &["CAP_CHOWN"], &["ALL"]],
            [&[], &["CAP_KILL"], &[], &["RESET", "all"], &[], &["ALL"]],
        ];
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let set = |names: &[&str]| owned(names).into_iter().collect::<BTreeSet<_>>();
        for [added, dropped, add, drop, expected_added, expected_dropped] in table {
            let merged = merge(set(added), set(dropped), &owned(add), &owned(drop));
            assert_eq!(merged, (set(expected_added), set(expected_dropped)), "+{add:?} -{drop:?}");
        }
    }
}
