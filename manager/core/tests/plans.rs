//! Golden scripts of the planners: `tests/plans/*.txt`, one behaviour each.
//!
//! A line that begins with `>` is a command, lines that begin with `#` are remarks, everything else is what
//! the command before it printed. `UPDATE_EXPECT=1` writes what is printed now.
#![allow(clippy::unwrap_used, reason = "tests")]

mod script;
mod world;

use std::path::PathBuf;

#[test]
fn scripts_print_what_they_expect() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut different = Vec::new();
    for path in &paths {
        let expected = std::fs::read_to_string(path).unwrap();
        // What panics has told why; which script it was is told here.
        let Ok(printed) = std::panic::catch_unwind(|| script::run(&expected)) else {
            different.push(format!("{}: did not come to its end", path.display()));
            continue;
        };
        if update {
            std::fs::write(path, &printed).unwrap();
        } else if printed != expected {
            different.push(format!("{}:\n{}", path.display(), script::difference(&expected, &printed)));
        }
    }
    assert!(paths.len() >= 15, "scripts are missing");
    assert!(different.is_empty(), "UPDATE_EXPECT=1 accepts these:\n{}", different.join("\n"));
}
