//! Who may depend on whom, held against `arrows.txt`.
//!
//! Three kinds of lines: `A -> B C` are all arrows from A to crates of ours; `A without B C` are crates that A
//! must not reach by any way; `a only P Q` are the places, as the beginnings of paths, where `a` may be named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::{step, tidy};

const FILE: &str = "xtask/arrows.txt";

/// What `arrows.txt` says.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    arrows: BTreeMap<String, BTreeSet<String>>,
    without: BTreeMap<String, BTreeSet<String>>,
    only: BTreeMap<String, BTreeSet<String>>,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { bail!("{FILE}: {line:?}") };
            let rest = words.map(str::to_owned).collect();
            let table = match kind {
                "->" => &mut rules.arrows,
                "without" => &mut rules.without,
                "only" => &mut rules.only,
                other => bail!("{FILE}: {line:?}: unknown word {other:?}"),
            };
            table.insert(name.to_owned(), rest);
        }
        Ok(rules)
    }
}

/// Compares the workspace with the rules.
pub(crate) fn check() -> Result<()> {
    let root = step::root();
    let rules = Rules::parse(&fs::read_to_string(root.join(FILE)).with_context(|| FILE.to_owned())?)?;
    let metadata = MetadataCommand::new().current_dir(&root).exec().context("cargo metadata")?;
    let mut wrong = compare(&rules.arrows, &actual(&metadata));
    wrong.extend(reached(&metadata, &rules.without)?);
    wrong.extend(named_elsewhere(&root, &metadata, &rules.only)?);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "the arrows are not those of {FILE} (see ARCHITECTURE.md before it is changed):\n  {}",
        wrong.join("\n  ")
    )
}

/// The arrows between packages of the workspace; those of tests alone do not count.
fn actual(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let arrows = packages.iter().map(|package| {
        let used =
            package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        let used = used.map(|dependency| dependency.name.clone()).filter(|name| ours.contains(name));
        (package.name.to_string(), used.collect())
    });
    arrows.collect()
}

fn compare(
    wanted: &BTreeMap<String, BTreeSet<String>>,
    actual: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let none = BTreeSet::new();
    let names: BTreeSet<&String> = wanted.keys().chain(actual.keys()).collect();
    let mut wrong = Vec::new();
    for name in names {
        let (from, to) = (wanted.get(name).unwrap_or(&none), actual.get(name).unwrap_or(&none));
        wrong.extend(to.difference(from).map(|other| format!("{name} -> {other} is not allowed")));
        wrong.extend(from.difference(to).map(|other| format!("{name} -> {other} is no longer there")));
        if !wanted.contains_key(name) {
            wrong.push(format!("{name} has no line"));
        }
    }
    wrong
}

/// Crates that are reached although they must not be, with the way.
fn reached(metadata: &Metadata, without: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<String>> {
    let graph = metadata.resolve.as_ref().context("cargo metadata without a graph")?;
    let normal = |id: &PackageId| -> Vec<PackageId> {
        let node = graph.nodes.iter().find(|node| node.id == *id);
        let uses = |dependency: &&cargo_metadata::NodeDep| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        };
        node.into_iter()
            .flat_map(|node| node.deps.iter().filter(uses).map(|dependency| dependency.pkg.clone()))
            .collect()
    };
    let mut wrong = Vec::new();
    for (name, forbidden) in without {
        let Some(start) = metadata.workspace_packages().into_iter().find(|package| *package.name == **name)
        else {
            bail!("{FILE}: {name} is not a package of the workspace");
        };
        let mut ways = BTreeMap::from([(start.id.clone(), name.clone())]);
        let mut queue = vec![start.id.clone()];
        while let Some(id) = queue.pop() {
            for next in normal(&id) {
                if !ways.contains_key(&next) {
                    let way = format!("{} -> {}", ways[&id], metadata[&next].name);
                    if forbidden.contains(metadata[&next].name.as_str()) {
                        wrong.push(way.clone());
                    }
                    ways.insert(next.clone(), way);
                    queue.push(next);
                }
            }
        }
    }
    Ok(wrong)
}

/// Lines that name a crate outside of its places.
fn named_elsewhere(
    root: &Path,
    metadata: &Metadata,
    only: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.as_std_path().parent().context("a manifest without a folder")?;
        // A package inside another's folder is seen on its own turn.
        for part in ["src", "tests", "benches"] {
            for file in tidy::sources(&folder.join(part))? {
                let path = file.strip_prefix(root).unwrap_or(&file).display().to_string();
                let content = fs::read_to_string(&file)?;
                for (name, places) in only {
                    if !places.iter().any(|place| path.starts_with(place))
                        && content.lines().any(|line| names(line, name))
                    {
                        wrong.push(format!("{path} names {name}"));
                    }
                }
            }
        }
    }
    Ok(wrong)
}

/// Whether a line of code uses the crate: its name as a whole word, followed by `::` or an end of `use`.
fn names(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let whole = before
            .is_none_or(|character| !character.is_alphanumeric() && !matches!(character, '_' | ':' | '"'));
        whole
            && (after.starts_with("::")
                || (code.trim_start().starts_with("use ") && after.starts_with([';', ' ', ','])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_told_from_words_that_look_like_it() {
        for line in
            ["use ferry::Boat;", "    let x: ferry::Boat = y;", "use ferry as boat;", "use {ferry::A};"]
        {
            assert!(names(line, "ferry"), "{line}");
        }
        for line in ["// ferry::Boat", "my_ferry::x()", "ferry_memory::x", "a::ferry::b", "ferry = 1"] {
            assert!(!names(line, "ferry"), "{line}");
        }
    }

    #[test]
    fn new_and_lost_arrows_are_both_told() {
        let rules = Rules::parse("# arrows\na -> b\nb ->\nc without tokio\nd only x/y\n").expect("rules");
        let arrows = Rules::parse("a -> c\nb ->\nc ->\n").expect("rules").arrows;
        let wrong = compare(&rules.arrows, &arrows);
        assert_eq!(wrong, ["a -> c is not allowed", "a -> b is no longer there", "c has no line"]);
    }
}
