//! Secrets and configs that a service is given: `name`, or `source=name,target=path,uid=0,gid=0,mode=0444`.
//!
//! `name@3` keeps to version 3. A secret may be a variable of the environment instead of a file: `env=NAME`.

use std::fmt;

use coracle_model::secret::FILE_MODE;
use coracle_proto::v1;
use coracle_proto::v1::file_reference::Target;

use super::csv::{self, once};
use super::{FlagError, count};

/// One secret or config as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileFlag(pub v1::FileReference);

#[derive(Default)]
struct Fields {
    source: Option<String>,
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    variable: Option<String>,
}

/// A parser for clap of references of this kind.
pub(crate) fn parser(
    kind: v1::FileKind,
) -> impl Fn(&str) -> Result<FileFlag, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(kind, text)
}

/// The kind's flag.
pub(crate) const fn word(kind: v1::FileKind) -> &'static str {
    match kind {
        v1::FileKind::Config => "config",
        v1::FileKind::Secret | v1::FileKind::Unspecified => "secret",
    }
}

fn parse(kind: v1::FileKind, text: &str) -> Result<FileFlag, FlagError> {
    let refuse = |problem: String| FlagError::new(word(kind), text, problem);
    let parts = csv::fields(text).ok_or_else(|| refuse("a double quote is not closed".to_owned()))?;
    let mut fields = Fields::default();
    for (at, part) in parts.iter().enumerate() {
        match part.split_once('=') {
            Some((key, value)) => fields.take(key, value).map_err(refuse)?,
            None if at == 0 && !part.is_empty() => fields.source = Some(part.clone()),
            None => return Err(refuse(format!("write {part}=VALUE"))),
        }
    }
    fields.finish(kind).map(FileFlag).map_err(refuse)
}

impl Fields {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "source" | "src" => once(&mut self.source, key, value.to_owned()),
            "target" => once(&mut self.target, key, value.to_owned()),
            "uid" => once(&mut self.uid, key, owner(key, value)?),
            "gid" => once(&mut self.gid, key, owner(key, value)?),
            "mode" => once(&mut self.mode, key, csv::octal(key, value)?),
            "env" => once(&mut self.variable, key, value.to_owned()),
            _ => Err(format!("unknown field {key:?}; use source, target, uid, gid, mode and env")),
        }
    }

    fn finish(self, kind: v1::FileKind) -> Result<v1::FileReference, String> {
        let source =
            self.source.filter(|source| !source.is_empty()).ok_or("the source is missing; give a name")?;
        let (name, content) = match source.rsplit_once('@') {
            Some((name, version)) => (name.to_owned(), Some(pin(version)?)),
            None => (source.clone(), None),
        };
        let target = match self.variable {
            Some(variable) => {
                if self.target.is_some() || self.uid.is_some() || self.gid.is_some() || self.mode.is_some() {
                    return Err("env goes without target, uid, gid and mode".to_owned());
                }
                Target::Variable(variable)
            }
            None => Target::Path(v1::FilePath {
                path: self.target.unwrap_or_else(|| name.clone()),
                uid: self.uid.unwrap_or(0),
                gid: self.gid.unwrap_or(0),
                mode: Some(self.mode.unwrap_or(FILE_MODE)),
            }),
        };
        Ok(v1::FileReference {
            kind: kind.into(),
            name,
            file: String::new(),
            content: content.unwrap_or(0),
            pinned: content.is_some(),
            target: Some(target),
        })
    }
}

fn owner(key: &str, text: &str) -> Result<u32, String> {
    let number = count::parse(key, text, u32::MAX.into()).map_err(|error| error.to_string())?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn pin(text: &str) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text:?} is no version; write NAME@NUMBER, or NAME to follow the newest"))
}

impl fmt::Display for FileFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source={}", self.0.name)?;
        if self.0.pinned {
            write!(f, "@{}", self.0.content)?;
        }
        match &self.0.target {
            Some(Target::Path(path)) => {
                let target = csv::field(&format!("target={}", path.path));
                let mode = path.mode.unwrap_or(FILE_MODE);
                write!(f, ",{target},uid={},gid={},mode={mode:04o}", path.uid, path.gid)
            }
            Some(Target::Variable(variable)) => write!(f, ",env={variable}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_spellings_are_read() {
        for (text, shown) in [
            ("key", "source=key,target=key,uid=0,gid=0,mode=0444"),
            ("key@3", "source=key@3,target=key,uid=0,gid=0,mode=0444"),
            (
                "source=key,target=/etc/k,uid=7,gid=8,mode=0400",
                "source=key,target=/etc/k,uid=7,gid=8,mode=0400",
            ),
            ("src=key,\"target=a,b\"", "source=key,\"target=a,b\",uid=0,gid=0,mode=0444"),
            ("key,env=TOKEN", "source=key,env=TOKEN"),
        ] {
            let flag = parse(v1::FileKind::Secret, text).unwrap();
            assert_eq!(flag.to_string(), shown);
            assert_eq!(parse(v1::FileKind::Secret, shown), Ok(flag));
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (text, part) in [
            ("", "write =VALUE"),
            ("target=/a", "the source is missing"),
            ("key@0", "\"0\" is no version"),
            ("key,mode=9", "octal"),
            ("key,uid=-1", "uid: invalid value"),
            ("key,env=A,target=/a", "env goes without target"),
            ("key,colour=red", "unknown field \"colour\""),
            ("key,readonly", "write readonly=VALUE"),
        ] {
            let error = parse(v1::FileKind::Config, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: invalid value {text:?}: ")), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }
}
