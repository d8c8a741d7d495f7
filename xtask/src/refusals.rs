//! Every refusal has its exact text in a golden file or a test: a rule that nobody has tried says something nobody has read.
//!
//! The texts of messages are looked for where they are written: literals of several words in the rules and in the parsers of
//! flags, and in what the managers check themselves. What stands in braces there may be anything in the golden text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::step;
use crate::tidy::sources;

/// Where refusals are written.
const RULES: [&str; 7] = [
    "crates/model/src/validate.rs",
    "crates/model/src/validate",
    "crates/model/src/template.rs",
    "crates/model/src/template/file.rs",
    "cli/src/opt",
    "manager/src/api",
    "manager/src/ca/refusal.rs",
];
/// Where their texts are held.
const GOLDEN: [&str; 7] = [
    "cli/src/cmd/service/tests/snapshots",
    "cli/tests/snapshots",
    "crates/model/src/validate/tests.rs",
    "crates/model/src/template/tests.rs",
    "manager/src/api/file_use/tests.rs",
    "manager/src/api/service/tests.rs",
    "manager/src/api/volume/tests.rs",
];
/// Literals that are no part of a refusal, with the reason.
const OTHERS: [(&str, &str); 18] = [
    ("{field}: invalid value {value:?}: {problem}", "the form of all of them"),
    ("cannot read the file: {error}", "what follows is the system's"),
    ("it asks for what only secrets and configs are given", "no text in these fields can ask for it"),
    ("rollback in progress", "what a service that goes back says of itself"),
    ("join token rotated", "the reason of a write"),
    ("operator certificate issued", "a line of the log"),
    ("{}: no answer in time", "a node that hangs; `service logs` shows it as a warning"),
    ("leadership has changed; ask again", "the end of a stream that had begun"),
    ("leadership has changed; watch again", "the end of a stream that the command line opens again"),
    ("taking the archive failed: {error}", "a fault of the program"),
    ("looking ahead failed: {error}", "a fault of the program"),
    ("a header after the beginning", TRANSFER),
    ("the request does not begin with a header", TRANSFER),
    ("the request does not begin with a start", TRANSFER),
    ("a start after the beginning", TRANSFER),
    ("{bytes} bytes of the archive arrived, {} were sent", TRANSFER),
    ("nothing of the archive arrived for {} s", TRANSFER),
    ("the archive breaks off before its end", TRANSFER),
];
/// Why there is no command that leads to what is said of the messages of a transfer.
const TRANSFER: &str = "this command line sends transfers that are whole";

#[test]
fn every_refusal_has_its_text() -> Result<()> {
    let root = step::root();
    let mut golden = String::new();
    for place in GOLDEN {
        for file in files(&root.join(place))? {
            golden.push_str(&joined(&read(&file)?));
        }
    }
    let mut missing = Vec::new();
    for place in RULES {
        for file in files(&root.join(place))?
            .into_iter()
            .filter(|file| file.file_stem().is_some_and(|stem| stem != "tests"))
        {
            let text = read(&file)?;
            let (rules, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            let tests = &joined(tests);
            for message in messages(rules) {
                let other = OTHERS.iter().any(|(text, _)| *text == message);
                if !other && !is_held(&message, &golden) && !is_held(&message, tests) {
                    missing
                        .push(format!("{}: {message}", file.strip_prefix(&root).unwrap_or(&file).display()));
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "refusals without a golden text: add flags that lead to them to cli/src/cmd/service/tests/refusals.txt, and for those of \
         manager/src a test beside them\n  {}",
        missing.join("\n  ")
    )
}

fn files(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    if place.file_name().is_some_and(|name| name == "snapshots") {
        let entries = fs::read_dir(place).with_context(|| format!("read {}", place.display()))?;
        return entries.map(|entry| Ok(entry?.path())).collect();
    }
    sources(place)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Literals of at least three words outside of comments and attributes, as they are when the program runs.
fn messages(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut characters = source.chars().peekable();
    let mut line_begin = true;
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                line_begin = true;
                continue;
            }
            ' ' => continue,
            '/' if characters.peek() == Some(&'/') => skip_line(&mut characters),
            '#' if line_begin => skip_line(&mut characters),
            // A character, or a lifetime, which has no second quote.
            '\'' => skip_character(&mut characters),
            '"' => {
                let literal = literal(&mut characters);
                if literal.split(' ').filter(|word| word.chars().any(char::is_alphabetic)).count() >= 3 {
                    found.push(literal);
                }
            }
            _ => {}
        }
        line_begin = character == '#' && line_begin;
    }
    found
}

/// The source with literals that go on in the next line in one line.
fn joined(source: &str) -> String {
    let mut lines = source.split("\\\n");
    let mut text = lines.next().unwrap_or_default().to_owned();
    lines.for_each(|line| text.push_str(line.trim_start()));
    text
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_line(characters: &mut Characters<'_>) {
    while characters.peek().is_some_and(|character| *character != '\n') {
        characters.next();
    }
}

fn skip_character(characters: &mut Characters<'_>) {
    let mut ahead = characters.clone();
    let (first, second) = (ahead.next(), ahead.next());
    if first == Some('\\') || second == Some('\'') {
        characters.next();
        characters.next();
    }
}

fn literal(characters: &mut Characters<'_>) -> String {
    let mut text = String::new();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next() {
                Some('\n') => {
                    while characters.peek().is_some_and(|character| character.is_whitespace()) {
                        characters.next();
                    }
                }
                Some(escaped) => text.push(escaped),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

/// Whether some line has the parts of the message in order, with anything in place of what is in braces.
fn is_held(message: &str, golden: &str) -> bool {
    // A text that is printed as it is may have braces of its own.
    let as_it_is = |line: &str| line.replace("\\\"", "\"").contains(message);
    if golden.lines().any(as_it_is) {
        return true;
    }
    let pattern = message.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = Vec::new();
    for part in pattern.split('{') {
        let fixed = if parts.is_empty() { part } else { part.split_once('}').map_or("", |(_, rest)| rest) };
        parts.push(fixed.replace('\u{1}', "{").replace('\u{2}', "}"));
    }
    golden.lines().any(|line| {
        // In the source of a test quotes are escaped.
        let line = line.replace("\\\"", "\"");
        let mut rest = line.as_str();
        parts.iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

const SOURCE: &str = r#"
    // "not in a comment"
    #[expect(reason = "not in an attribute")]
    fn rule<'a>(c: &'a str) { invalid("field", c, format!("at most {LIMIT} of \
        them are \"possible\"")); let quote = '"'; invalid("a", 'b', "use letters, and nothing else") }
"#;

#[test]
fn messages_are_found() {
    assert_eq!(
        messages(SOURCE),
        ["at most {LIMIT} of them are \"possible\"", "use letters, and nothing else"]
    );
}

#[test]
fn what_is_in_braces_may_be_anything() {
    let golden = "x\n    replicas: invalid value \"9\": at most 7 of them are \"possible\"\n";
    assert!(is_held("at most {LIMIT} of them are \"possible\"", golden));
    assert!(!is_held("at least {LIMIT} of them are \"possible\"", golden));
    assert!(is_held("write {{x}} for {what:?}", "write {x} for \\\"y\\\""));
}
