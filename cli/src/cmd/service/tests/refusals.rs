//! The exact text of every refusal. `cargo xtask verify` looks for rules without one.

use std::fmt::Write as _;

use super::{checked, created, flags, updated};

const ACCEPTED: &str = "(not refused)";

/// `«3*ab»` written out, and zero bytes.
fn spelled_out(line: &str) -> String {
    let mut text = String::new();
    let mut parts = line.split('«');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (repeated, rest) = part.split_once('»').unwrap();
        let (count, what) = repeated.split_once('*').unwrap();
        text.push_str(&what.repeat(count.parse().unwrap()));
        text.push_str(rest);
    }
    text.replace('␀', "\0")
}

fn refusal(line: &str) -> String {
    let mut words = flags(&spelled_out(line));
    let outcome = if words.first().is_some_and(|word| word == "update") {
        words.remove(0);
        created(&[]).and_then(|present| updated(present, &words)).and_then(checked)
    } else {
        created(&words).and_then(checked)
    };
    outcome.map_or_else(|error| error, |_| ACCEPTED.to_owned())
}

#[test]
fn every_refusal_says_field_value_and_remedy() {
    let lines = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cmd/service/tests/refusals.txt");
    let lines = std::fs::read_to_string(lines).unwrap();
    let (mut text, mut accepted) = (String::new(), Vec::new());
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let refusal = refusal(line).replace('\n', "\n    ");
        writeln!(text, "{line}\n    {refusal}").unwrap();
        accepted.extend((refusal == ACCEPTED).then_some(line));
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
    insta::assert_snapshot!("refusals", text);
}
