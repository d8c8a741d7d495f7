//! Whether `docs/parity.md` tells the truth: every test that it names is in the tree, and every row names one or says why not.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::step;

/// The table.
const DOCUMENT: &str = "docs/parity.md";
/// Where the scripts are that it calls `plans/NAME`.
const SCRIPTS: &str = "manager/core/tests/plans";
/// What a row without a test of ours begins with.
const REASONS: [&str; 4] = ["later", "out of scope", "theirs", "differs"];

/// Checks the table against the tree.
pub(crate) fn check() -> Result<()> {
    let root = step::root();
    let text = fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("read {DOCUMENT}"))?;
    let rows = rows(&text);
    if rows.len() < 50 {
        bail!("{DOCUMENT}: only {} rows were found", rows.len());
    }
    let wrong: Vec<String> = rows
        .into_iter()
        .filter_map(|(line, cell)| Some(format!("{DOCUMENT}:{line}: {}", complaint(&root, cell)?)))
        .collect();
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n  ")) }
}

/// The last cells of the rows of all tables whose first column is headed `SwarmKit`, with their lines.
fn rows(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "SwarmKit", ..] => inside = true,
            ["", rule, ..] if rule.starts_with("---") => {}
            ["", _, ours, ""] if inside => found.push((number + 1, *ours)),
            _ => inside = false,
        }
    }
    found
}

/// What is wrong with the cell, if anything is.
fn complaint(root: &Path, cell: &str) -> Option<String> {
    let named: Vec<&str> = cell.split('`').skip(1).step_by(2).filter(|text| text.contains('/')).collect();
    let excused =
        REASONS.iter().any(|word| cell.strip_prefix(word).is_some_and(|rest| rest.starts_with(": ")));
    if named.is_empty() && !excused {
        return Some(format!("neither a test nor one of {REASONS:?} in {cell:?}"));
    }
    named.into_iter().find_map(|name| missing(root, name))
}

/// Why the test that is named so is not there, if it is not.
fn missing(root: &Path, name: &str) -> Option<String> {
    let (file, test) = match name.strip_prefix("plans/") {
        Some(script) => (format!("{SCRIPTS}/{script}.txt"), None),
        None => match name.split_once("::") {
            Some((file, test)) => (file.to_owned(), Some(test)),
            None => (name.to_owned(), None),
        },
    };
    let path = root.join(&file);
    match test {
        None => (!path.exists()).then(|| format!("there is no {file}")),
        Some(test) => match fs::read_to_string(&path) {
            Err(_) => Some(format!("there is no {file}")),
            Ok(content) => {
                (!content.contains(&format!("fn {test}("))).then(|| format!("{file} has no test {test}"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_tests_that_are_there() {
        check().expect("the table is right");
    }

    #[test]
    fn a_test_that_is_not_there_is_told() {
        let root = step::root();
        let told = |cell| complaint(&root, cell);
        assert_eq!(told("`plans/scale`, `xtask/src/parity.rs::a_test_that_is_not_there_is_told`"), None);
        assert_eq!(told("theirs: a lock"), None);
        assert!(told("`plans/scale`, `plans/no_such`").is_some_and(|text| text.contains("no_such.txt")));
        assert!(
            told("differs: so (`xtask/src/parity.rs::no_such`)").is_some_and(|text| text.contains("no_such"))
        );
        assert!(told("`xtask/src/none.rs::check`").is_some());
        assert!(told("because").is_some(), "a reason begins with a word of the list");
        assert!(told("").is_some());
    }

    #[test]
    fn only_tables_of_swarms_tests_have_rows() {
        let text = "| word | means |\n| --- | --- |\n| later | x |\n\n| SwarmKit | ours |\n|---|---|\n| A | b |\n\n| C | d |\n";
        assert_eq!(rows(text), [(7, "b")]);
    }
}
