//! The command reference in `docs/reference`, one file for each noun: written from the command line itself, and a test
//! fails when it is stale. `CORACLE_WRITE_REFERENCE=1 cargo test -p coracle reference` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// The text of each file, by its name.
fn pages() -> BTreeMap<String, String> {
    let mut root = Cli::command();
    root.build();
    let mut pages = BTreeMap::new();
    for noun in root.get_subcommands().filter(|command| command.get_name() != "help") {
        let mut page = format!("# coracle {}\n\n", noun.get_name());
        if noun.has_subcommands() {
            writeln!(page, "{}.\n", noun.get_about().map(ToString::to_string).unwrap_or_default()).unwrap();
            for verb in noun.get_subcommands().filter(|command| command.get_name() != "help") {
                writeln!(page, "## coracle {} {}\n", noun.get_name(), verb.get_name()).unwrap();
                describe(&mut page, verb);
            }
        } else {
            describe(&mut page, noun);
        }
        pages.insert(format!("{}.md", noun.get_name()), format!("{}\n", page.trim_end()));
    }
    pages
}

fn describe(page: &mut String, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    writeln!(page, "{about}.\n\n    {}\n", usage.trim_start_matches("Usage: ")).unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        writeln!(page, "Also: `{}`.\n", aliases.join("`, `")).unwrap();
    }
    let mut arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| {
            !argument.is_hide_set() && !argument.is_global_set() && argument.get_id() != "help"
        })
        .collect();
    arguments.sort_by_key(|argument| (argument.get_long().is_some(), argument.get_long()));
    if !arguments.is_empty() {
        page.push_str("| argument | meaning |\n| --- | --- |\n");
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace('|', "\\|").replace('\n', " ");
            writeln!(page, "| `{}` | {help} |", name(argument).replace('|', "\\|")).unwrap();
        }
        page.push('\n');
    }
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<&str> = examples.lines().filter(|line| line.contains("coracle ")).map(str::trim).collect();
    if !lines.is_empty() {
        writeln!(page, "```\n{}\n```\n", lines.join("\n")).unwrap();
    }
}

fn name(argument: &Arg) -> String {
    let value =
        argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let Some(long) = argument.get_long() else { return value };
    let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let takes = argument.get_action().takes_values() && !value.is_empty();
    let value = match takes {
        true if argument.is_require_equals_set() => format!("[={value}]"),
        true => format!(" {value}"),
        false => String::new(),
    };
    format!("{short}--{long}{value}")
}

#[test]
fn the_reference_is_what_the_command_line_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let write = std::env::var_os("CORACLE_WRITE_REFERENCE").is_some();
    if write {
        std::fs::create_dir_all(&folder).unwrap();
    }
    for (name, text) in pages() {
        let path = folder.join(&name);
        if write {
            std::fs::write(&path, text).unwrap();
        } else {
            let present = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                present == text,
                "docs/reference/{name} is stale: write it with CORACLE_WRITE_REFERENCE=1 cargo test -p coracle reference"
            );
        }
    }
}
