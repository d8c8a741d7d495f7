//! Mounts: `type=bind,source=/data,target=/var/data,readonly` and `type=tmpfs,target=/tmp,tmpfs-size=64m`.
//!
//! The fields are one record of CSV (RFC 4180), so that a path with a comma can be quoted.

use std::fmt;
use std::str::FromStr;

use coracle_model::mount::TMPFS_MODE;
use coracle_proto::v1;
use coracle_proto::v1::mount::Kind;

use super::{FlagError, bytes};

/// One mount as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MountFlag(pub v1::Mount);

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
}

impl FromStr for MountFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let refuse = |problem: String| FlagError::new("mount", text, problem);
        let mut fields = Fields::default();
        for field in csv_fields(text).ok_or_else(|| refuse("a double quote is not closed".to_owned()))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            fields.take(key, value).map_err(refuse)?;
        }
        fields.finish().map(Self).map_err(refuse)
    }
}

impl Fields {
    fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let needed = || value.map(str::to_owned).ok_or_else(|| format!("write {key}=VALUE"));
        match key {
            "type" => once(&mut self.kind, key, needed()?),
            "source" | "src" => once(&mut self.source, key, needed()?),
            "target" | "dst" | "destination" => once(&mut self.target, key, needed()?),
            "readonly" | "ro" => once(&mut self.read_only, key, boolean(key, value)?),
            "tmpfs-size" => {
                let size = bytes::parse("tmpfs-size", &needed()?).map_err(|error| error.to_string())?;
                once(&mut self.size, key, size)
            }
            "tmpfs-mode" => once(&mut self.mode, key, octal(&needed()?)?),
            _ => Err(format!(
                "unknown field {key:?}; use type, source, target, readonly, tmpfs-size and tmpfs-mode"
            )),
        }
    }

    fn finish(self) -> Result<v1::Mount, String> {
        let target = self.target.ok_or("the target is missing; add target=PATH")?;
        let kind = match self.kind.as_deref() {
            Some("bind") if self.size.is_some() || self.mode.is_some() => {
                return Err("tmpfs-size and tmpfs-mode go with type=tmpfs only".to_owned());
            }
            Some("bind") => Kind::Bind(v1::BindMount {
                source: self.source.ok_or("the source is missing; add source=PATH, a path on the node")?,
                ..Default::default()
            }),
            Some("tmpfs") if self.source.is_some() => {
                return Err("a tmpfs has no source; leave it out".to_owned());
            }
            Some("tmpfs") => Kind::Tmpfs(v1::TmpfsMount {
                size: self.size.unwrap_or(0),
                mode: self.mode.unwrap_or(TMPFS_MODE),
            }),
            Some("volume") => return Err("volumes are not there yet; use type=bind or type=tmpfs".to_owned()),
            Some(other) => return Err(format!("unknown type {other:?}; use type=bind or type=tmpfs")),
            None => return Err("the type is missing; add type=bind or type=tmpfs".to_owned()),
        };
        Ok(v1::Mount { target, read_only: self.read_only.unwrap_or(false), kind: Some(kind) })
    }
}

fn once<T>(place: &mut Option<T>, key: &str, value: T) -> Result<(), String> {
    if place.is_some() {
        return Err(format!("{key} is given twice"));
    }
    *place = Some(value);
    Ok(())
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key}={other}: use true or false")),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let good = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = if good { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("tmpfs-mode={text}: use octal permission bits, such as 1777"))
}

/// The fields of one CSV record; nothing when a quote is not closed.
fn csv_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(fields)
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

impl fmt::Display for MountFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = csv_field(&format!("target={}", self.0.target));
        match &self.0.kind {
            Some(Kind::Bind(bind)) => {
                write!(f, "type=bind,{},{target}", csv_field(&format!("source={}", bind.source)))?
            }
            Some(Kind::Tmpfs(tmpfs)) => {
                write!(f, "type=tmpfs,{target},tmpfs-size={},tmpfs-mode={:o}", tmpfs.size, tmpfs.mode)?;
            }
            Some(Kind::Volume(_) | Kind::Image(_)) | None => f.write_str(&target)?,
        }
        if self.0.read_only { f.write_str(",readonly") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bind(source: &str, target: &str, read_only: bool) -> MountFlag {
        let kind = Some(Kind::Bind(v1::BindMount { source: source.to_owned(), ..Default::default() }));
        MountFlag(v1::Mount { target: target.to_owned(), read_only, kind })
    }

    fn tmpfs(target: &str, size: u64, mode: u32) -> MountFlag {
        let kind = Some(Kind::Tmpfs(v1::TmpfsMount { size, mode }));
        MountFlag(v1::Mount { target: target.to_owned(), read_only: false, kind })
    }

    #[test]
    fn docker_spellings_are_read() {
        for (text, mount) in [
            ("type=bind,source=/a,target=/b", bind("/a", "/b", false)),
            ("type=bind,src=/a,dst=/b,ro", bind("/a", "/b", true)),
            ("src=/a,destination=/b,readonly=false,type=bind", bind("/a", "/b", false)),
            ("type=bind,\"src=/a,b\",target=/c", bind("/a,b", "/c", false)),
            ("type=tmpfs,target=/t", tmpfs("/t", 0, 0o1777)),
            ("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=700", tmpfs("/t", 64 << 20, 0o700)),
        ] {
            assert_eq!(text.parse(), Ok(mount), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (text, part) in [
            ("", "unknown field \"\""),
            ("target=/b", "the type is missing"),
            ("type=bind,target=/b", "the source is missing"),
            ("type=bind,source=/a", "the target is missing"),
            ("type=volume,source=v,target=/b", "volumes are not there yet"),
            ("type=npipe,target=/b", "unknown type \"npipe\""),
            ("type=tmpfs,target=/b,source=/a", "a tmpfs has no source"),
            ("type=bind,source=/a,target=/b,tmpfs-size=1m", "go with type=tmpfs only"),
            ("type=tmpfs,target=/b,tmpfs-size=-1", "tmpfs-size: invalid value \"-1\""),
            ("type=tmpfs,target=/b,tmpfs-mode=999", "octal"),
            ("type=bind,target=/a,target=/b,source=/c", "target is given twice"),
            ("type=bind,source,target=/b", "write source=VALUE"),
            ("type=bind,ro=maybe,source=/a,target=/b", "ro=maybe: use true or false"),
            ("\"type=bind", "a double quote is not closed"),
        ] {
            let error = text.parse::<MountFlag>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("mount: invalid value {text:?}: ")), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(source in "[^\\r\\n]{1,9}", target in "[^\\r\\n]{1,9}", read_only: bool, size: u64, mode in 0u32..0o10000) {
            for mount in [bind(&source, &target, read_only), tmpfs(&target, size, mode)] {
                prop_assert_eq!(mount.to_string().parse(), Ok(mount));
            }
        }
    }
}
