//! The product's command line, run on a host of the lab as an operator would.

use std::fmt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::host::Host;

/// Seconds after which a command that does not end is killed: longer than any deadline of its own.
const DEADLINE: &str = "120";

/// A command as it was typed, and what came of it.
#[derive(Debug)]
pub struct Finished {
    line: String,
    result: Result<Output>,
}

impl Finished {
    /// The standard output of a command that must succeed, without white space at its ends.
    ///
    /// # Errors
    /// When it failed; the message has its standard error.
    pub fn ok(self) -> Result<String> {
        let (line, output) = self.into_output()?;
        if !output.status.success() {
            bail!("coracle {line}: {}\n{}", output.status, text(&output.stderr).trim());
        }
        Ok(text(&output.stdout).trim().to_owned())
    }

    /// Standard output and error together of a command that must succeed.
    ///
    /// # Errors
    /// When it failed.
    pub fn ok_both(self) -> Result<String> {
        let (line, output) = self.into_output()?;
        let both = format!("{}{}", text(&output.stdout), text(&output.stderr));
        if output.status.success() { Ok(both) } else { bail!("coracle {line}: {}\n{both}", output.status) }
    }

    /// The standard error of a command that must fail and say all of `words` (in whatever case).
    ///
    /// # Errors
    /// When it succeeded, crashed, or says something else.
    pub fn refused(self, words: &[&str]) -> Result<String> {
        let (line, output) = self.into_output()?;
        let error = text(&output.stderr);
        match output.status.code() {
            None => bail!("coracle {line}: did not end by itself: {}\n{error}", output.status),
            Some(0) => {
                bail!("coracle {line}: should have been refused, but said: {}", text(&output.stdout).trim())
            }
            // 101 is a panic, 124 the deadline.
            Some(code @ (101 | 124 | 137)) => bail!("coracle {line}: exit status {code}\n{error}"),
            Some(_) => {}
        }
        let lower = error.to_lowercase();
        for word in words {
            if !lower.contains(&word.to_lowercase()) {
                bail!("coracle {line}: the error does not say {word:?}:\n{error}");
            }
        }
        Ok(error)
    }

    /// The exit status, whatever it is.
    ///
    /// # Errors
    /// When the command was ended by a signal or could not be started.
    pub fn code(self) -> Result<i32> {
        let (line, output) = self.into_output()?;
        output.status.code().with_context(|| format!("coracle {line}: {}", output.status))
    }

    /// A command that could not even be tried.
    #[must_use]
    pub fn impossible(line: &str, error: anyhow::Error) -> Self {
        Self { line: line.to_owned(), result: Err(error) }
    }

    fn into_output(self) -> Result<(String, Output)> {
        let output = self.result.with_context(|| format!("coracle {}", self.line))?;
        Ok((self.line, output))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coracle {}", self.line)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a line of arguments; words are divided by white space, and `'…'` or `"…"` keep it.
#[must_use]
pub fn run(host: &Host, binary: &Path, socket: &Path, line: &str) -> Finished {
    let result = command(host, binary, socket, line).and_then(|mut command| {
        command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))
    });
    Finished { line: line.to_owned(), result }
}

/// The same command, not yet started, without a deadline.
///
/// # Errors
/// When a quote in the line is not closed.
pub fn command(host: &Host, binary: &Path, socket: &Path, line: &str) -> Result<Command> {
    let words = words(line)?;
    let mut command = host.command("timeout");
    command.args(["--kill-after=5", DEADLINE]).arg(binary);
    if !words.iter().any(|word| word == "--host" || word == "--socket") {
        command.arg("--socket").arg(socket);
    }
    command.args(words);
    Ok(command)
}

/// Divides a line into words.
///
/// # Errors
/// When a quote is not closed.
pub fn words(line: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match quote {
            Some(open) if open == character => quote = None,
            Some(_) => word.get_or_insert_default().push(character),
            None if character == '\'' || character == '"' => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            None if character.is_whitespace() => found.extend(word.take()),
            None => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        bail!("the quote {open} is not closed in {line:?}");
    }
    found.extend(word);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_white_space_and_empty_words() {
        assert_eq!(words("a  'b c' \"d\"e ''").unwrap(), ["a", "b c", "de", ""]);
        assert!(words("a 'b").is_err());
    }
}
