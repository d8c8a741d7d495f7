//! Placeholders in texts: the part of Go's template language (package text/template) that Swarm's users write.
//!
//! A text stands for itself, except between `{{` and `}}`: there is one placeholder, or a text in quotes that stands for itself,
//! such as `{{"{{"}}`. `{{- ` also takes away the white space before it, ` -}}` that after it.

pub mod file;
mod values;

use std::fmt;

pub use values::{NodeFacts, Values};

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const CLOSE_AND_TRIM: &str = "-}}";
/// What Go's templates take for white space.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
/// Characters of a refused placeholder that are repeated in the message.
const SHOWN: usize = 60;

/// What a text may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// A field of a service: what is known of service, node and task.
    Specification,
    /// The content of a secret or a config: also other secrets, configs and variables of the service.
    File,
}

/// One placeholder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// `.Service.ID`
    ServiceId,
    /// `.Service.Name`
    ServiceName,
    /// `index .Service.Labels "key"`: empty where there is no such label, as in Go.
    ServiceLabel(String),
    /// `.Node.ID`
    NodeId,
    /// `.Node.Hostname`
    NodeHostname,
    /// `.Node.Platform.Architecture`
    NodeArchitecture,
    /// `.Node.Platform.OS`
    NodeOs,
    /// `.Task.ID`
    TaskId,
    /// `.Task.Name`
    TaskName,
    /// `.Task.Slot`
    TaskSlot,
    /// `secret "name"`, in secrets and configs only.
    Secret(String),
    /// `config "name"`, in secrets and configs only.
    Config(String),
    /// `env "NAME"`, in secrets and configs only.
    Variable(String),
}

/// A text that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// Why a text cannot be read. It names the place and what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Where the placeholder begins: line and character, both from 1.
    line: usize,
    character: usize,
    /// The placeholder; empty where it must not be shown.
    action: String,
    problem: Problem,
    words: Words,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Unclosed,
    Quote,
    Escape,
    Unknown,
}

impl TemplateError {
    /// Without what stands there: the text is a secret.
    #[must_use]
    pub fn without_text(self) -> Self {
        Self { action: String::new(), ..self }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            1 => write!(f, "at character {}", self.character)?,
            line => write!(f, "at line {line}, character {}", self.character)?,
        }
        match (self.problem, self.action.as_str()) {
            (Problem::Unclosed, _) => f.write_str(": \"{{\" is not closed by \"}}\"")?,
            (Problem::Quote, _) => f.write_str(": a text in quotes is not closed")?,
            (Problem::Escape, _) => {
                f.write_str(": a text in quotes has a '\\' that is not followed by \\, \", n, r or t")?;
            }
            (Problem::Unknown, "") => f.write_str(": what stands there is not known")?,
            (Problem::Unknown, action) => write!(f, ": {action} is not known")?,
        }
        f.write_str("; what can stand there is ")?;
        f.write_str(KNOWN)?;
        if self.words == Words::File {
            f.write_str(KNOWN_IN_FILES)?;
        }
        f.write_str(", and {{\"{{\"}} for two braces that are meant as they are")
    }
}

/// For messages.
const KNOWN: &str = "{{.Service.ID}}, {{.Service.Name}}, {{index .Service.Labels \"KEY\"}}, {{.Node.ID}}, {{.Node.Hostname}}, \
                     {{.Node.Platform.Architecture}}, {{.Node.Platform.OS}}, {{.Task.ID}}, {{.Task.Name}}, {{.Task.Slot}}";
const KNOWN_IN_FILES: &str = ", {{secret \"NAME\"}}, {{config \"NAME\"}}, {{env \"NAME\"}}";

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// If a placeholder is not closed or not known.
    pub fn parse(text: &str, words: Words) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim = false;
        while let Some((before, inside)) = rest.split_once(OPEN) {
            let begin = text.len() - inside.len() - OPEN.len();
            let refuse = |problem, end| TemplateError::new(text, begin..end, problem, words);
            let trimming = inside.strip_prefix('-').filter(|inside| inside.starts_with(SPACE));
            let before = if trim { before.trim_start_matches(SPACE) } else { before };
            let before = if trimming.is_some() { before.trim_end_matches(SPACE) } else { before };
            push(&mut parts, before.to_owned());
            let action =
                Action::read(trimming.unwrap_or(inside)).map_err(|problem| refuse(problem, begin))?;
            let end = text.len() - action.rest.len();
            match part(&action.tokens, words).ok_or_else(|| refuse(Problem::Unknown, end))? {
                Part::Text(text) => push(&mut parts, text),
                value @ Part::Value(_) => parts.push(value),
            }
            (rest, trim) = (action.rest, action.trim);
        }
        push(&mut parts, if trim { rest.trim_start_matches(SPACE) } else { rest }.to_owned());
        Ok(Self { parts })
    }

    /// What it asks for, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(placeholder) => Some(placeholder),
        })
    }

    /// What the text becomes, piece by piece: nothing is copied, so that whoever puts the pieces together can first add up how
    /// much it will be.
    ///
    /// # Errors
    /// The first that `value` gives.
    pub fn pieces<'a, E>(
        &'a self,
        value: impl Fn(&'a Placeholder) -> Result<&'a [u8], E>,
    ) -> Result<Vec<&'a [u8]>, E> {
        let piece = |part: &'a Part| match part {
            Part::Text(text) => Ok(text.as_bytes()),
            Part::Value(placeholder) => value(placeholder),
        };
        self.parts.iter().map(piece).collect()
    }
}

/// Whether a text may have placeholders at all.
#[must_use]
pub fn has_placeholders(text: &str) -> bool {
    text.contains(OPEN)
}

fn push(parts: &mut Vec<Part>, text: String) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// What stands between the braces.
struct Action<'a> {
    tokens: Vec<Token<'a>>,
    /// White space after it goes.
    trim: bool,
    /// What follows it.
    rest: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text(String),
}

impl<'a> Action<'a> {
    /// Reads up to and with the closing braces. Those in quotes do not close it.
    fn read(mut rest: &'a str) -> Result<Self, Problem> {
        let mut tokens = Vec::new();
        loop {
            let inner = rest.trim_start_matches(SPACE);
            let spaced = inner.len() < rest.len();
            if let Some(rest) = inner.strip_prefix(CLOSE) {
                return Ok(Self { tokens, trim: false, rest });
            }
            if let Some(rest) = inner.strip_prefix(CLOSE_AND_TRIM).filter(|_| spaced) {
                return Ok(Self { tokens, trim: true, rest });
            }
            let (token, after) = match inner.chars().next().ok_or(Problem::Unclosed)? {
                '"' => quoted(&inner[1..])?,
                '`' => inner[1..]
                    .split_once('`')
                    .map(|(text, after)| (Token::Text(text.to_owned()), after))
                    .ok_or(Problem::Quote)?,
                _ => {
                    let ends = [inner.find(SPACE), inner.find(['"', '`']), inner.find(CLOSE)];
                    let end = ends.into_iter().flatten().min().ok_or(Problem::Unclosed)?;
                    (Token::Word(&inner[..end]), &inner[end..])
                }
            };
            tokens.push(token);
            rest = after;
        }
    }
}

/// The text up to the next quote, and what follows.
fn quoted(text: &str) -> Result<(Token<'_>, &str), Problem> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next() {
            Some('"') => return Ok((Token::Text(value), characters.as_str())),
            Some('\\') => value.push(match characters.next() {
                Some(plain @ ('\\' | '"')) => plain,
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                _ => return Err(Problem::Escape),
            }),
            Some('\n') | None => return Err(Problem::Quote),
            Some(plain) => value.push(plain),
        }
    }
}

fn part(tokens: &[Token<'_>], words: Words) -> Option<Part> {
    let value = match tokens {
        [Token::Text(text)] => return Some(Part::Text(text.clone())),
        [Token::Word(path)] => by_path(path)?,
        [Token::Word("index"), Token::Word(".Service.Labels"), Token::Text(key)] => {
            Placeholder::ServiceLabel(key.clone())
        }
        [Token::Word(function), Token::Text(name)] if words == Words::File => match *function {
            "secret" => Placeholder::Secret(name.clone()),
            "config" => Placeholder::Config(name.clone()),
            "env" => Placeholder::Variable(name.clone()),
            _ => return None,
        },
        _ => return None,
    };
    Some(Part::Value(value))
}

fn by_path(path: &str) -> Option<Placeholder> {
    Some(match path {
        ".Service.ID" => Placeholder::ServiceId,
        ".Service.Name" => Placeholder::ServiceName,
        ".Node.ID" => Placeholder::NodeId,
        ".Node.Hostname" => Placeholder::NodeHostname,
        ".Node.Platform.Architecture" => Placeholder::NodeArchitecture,
        ".Node.Platform.OS" => Placeholder::NodeOs,
        ".Task.ID" => Placeholder::TaskId,
        ".Task.Name" => Placeholder::TaskName,
        ".Task.Slot" => Placeholder::TaskSlot,
        _ => return None,
    })
}

impl TemplateError {
    fn new(text: &str, place: std::ops::Range<usize>, problem: Problem, words: Words) -> Self {
        let before = &text[..place.start];
        let line_begin = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            character: before[line_begin..].chars().count() + 1,
            action: text[place].chars().take(SHOWN).collect(),
            problem,
            words,
        }
    }
}

#[cfg(test)]
mod tests;
