//! What no compiler checks: every crate takes the workspace's lints, every module says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::step;

/// Checks all packages of the workspace.
pub(crate) fn check() -> Result<()> {
    let metadata =
        MetadataCommand::new().current_dir(step::root()).no_deps().exec().context("cargo metadata")?;
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let manifest = package.manifest_path.as_std_path();
        if !takes_lints(&fs::read_to_string(manifest)?) {
            wrong.push(format!("{}: add `[lints]` with `workspace = true`", manifest.display()));
        }
        let folder = manifest.parent().context("a manifest without a folder")?.join("src");
        for file in sources(&folder)? {
            if !is_described(&file, &fs::read_to_string(&file)?) {
                wrong.push(format!("{}: begin with a `//!` line that says what it is for", file.display()));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("not tidy:\n  {}", wrong.join("\n  ")) }
}

fn takes_lints(manifest: &str) -> bool {
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("lints]"));
    section.is_some_and(|body| body.lines().any(|line| line.replace(' ', "") == "workspace=true"))
}

/// Whether a file begins with its description. Tests of the module next door need none.
fn is_described(file: &Path, content: &str) -> bool {
    let tests = file.file_stem().is_some_and(|stem| stem == "tests");
    let below_tests = file.parent().and_then(Path::file_name).is_some_and(|folder| folder == "tests");
    tests || below_tests || content.starts_with("//!")
}

/// All Rust files under a folder, in order.
pub(crate) fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                found.extend(sources(&path)?);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lints_section_is_found_and_missed() {
        assert!(takes_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\nname = \"a\"\n\n[dependencies]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\nname = \"a\"\n[lints]\n[lints.rust]\nx = \"deny\"\n"));
    }

    #[test]
    fn only_test_modules_go_without_a_description() {
        assert!(is_described(Path::new("src/a.rs"), "//! What.\n"));
        assert!(!is_described(Path::new("src/a.rs"), "use b;\n"));
        assert!(is_described(Path::new("src/a/tests.rs"), "use b;\n"));
    }
}
