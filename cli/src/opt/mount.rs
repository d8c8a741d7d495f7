//! Mounts: `type=bind,source=/data,target=/var/data,readonly`, `type=tmpfs,target=/tmp,tmpfs-size=64m`,
//! `type=volume,source=data,target=/data` and `type=image,source=web:1,target=/web`.
//!
//! The fields are one record of CSV (RFC 4180), so that a path with a comma can be quoted.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use coracle_model::mount::{Propagation, Recursive, TMPFS_MODE};
use coracle_model::volume::LOCAL_DRIVER;
use coracle_proto::v1;
use coracle_proto::v1::mount::Kind;

use super::csv::{self, octal, once};
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
    tmpfs: Tmpfs,
    bind: Bind,
    volume: Volume,
    image_subpath: Option<String>,
}

#[derive(Default, PartialEq)]
struct Tmpfs {
    size: Option<u64>,
    mode: Option<u32>,
}

#[derive(Default, PartialEq)]
struct Bind {
    propagation: Option<Propagation>,
    recursive: Option<Recursive>,
    create_source: Option<bool>,
}

#[derive(Default, PartialEq)]
struct Volume {
    labels: HashMap<String, String>,
    no_copy: Option<bool>,
    subpath: Option<String>,
}

impl FromStr for MountFlag {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let refuse = |problem: String| FlagError::new("mount", text, problem);
        let mut fields = Fields::default();
        for field in csv::fields(text).ok_or_else(|| refuse("a double quote is not closed".to_owned()))? {
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
                once(&mut self.tmpfs.size, key, size)
            }
            "tmpfs-mode" => once(&mut self.tmpfs.mode, key, octal(key, &needed()?)?),
            "bind-propagation" => once(&mut self.bind.propagation, key, propagation(&needed()?)?),
            "bind-recursive" => once(&mut self.bind.recursive, key, recursive(&needed()?)?),
            "bind-create-src" => once(&mut self.bind.create_source, key, boolean(key, value)?),
            "volume-label" => {
                let label = needed()?;
                let (name, text) = label.split_once('=').unwrap_or((&label, ""));
                self.volume.labels.insert(name.to_owned(), text.to_owned());
                Ok(())
            }
            "volume-nocopy" => once(&mut self.volume.no_copy, key, boolean(key, value)?),
            "volume-subpath" => once(&mut self.volume.subpath, key, needed()?),
            "volume-driver" if value == Some(LOCAL_DRIVER) => Ok(()),
            "volume-driver" => Err(format!("the only volume driver is {LOCAL_DRIVER}; leave this out")),
            "volume-opt" => Err("volumes of the local driver have no options; leave this out".to_owned()),
            "consistency" => Err("it means nothing on Linux; leave this out".to_owned()),
            "image-subpath" => once(&mut self.image_subpath, key, needed()?),
            _ if value.is_none() && key.contains(':') => Err(
                "write its fields: type=bind,source=PATH,target=PATH or type=volume,source=NAME,target=PATH"
                    .to_owned(),
            ),
            _ => Err(format!(
                "unknown field {key:?}; use type, source, target, readonly, bind-propagation, bind-recursive, \
                 bind-create-src, tmpfs-size, tmpfs-mode, volume-label, volume-nocopy, volume-subpath and image-subpath"
            )),
        }
    }

    fn finish(self) -> Result<v1::Mount, String> {
        self.check_kind()?;
        let target = self.target.ok_or("the target is missing; add target=PATH")?;
        let kind = match self.kind.as_deref() {
            Some("bind") => Kind::Bind(v1::BindMount {
                source: self.source.ok_or("the source is missing; add source=PATH, a path on the node")?,
                propagation: v1::Propagation::from(self.bind.propagation.unwrap_or_default()).into(),
                recursive: v1::Recursive::from(self.bind.recursive.unwrap_or_default()).into(),
                create_source: self.bind.create_source.unwrap_or(false),
            }),
            Some("tmpfs") if self.source.is_some() => {
                return Err("a tmpfs has no source; leave it out".to_owned());
            }
            Some("tmpfs") => Kind::Tmpfs(v1::TmpfsMount {
                size: self.tmpfs.size.unwrap_or(0),
                mode: self.tmpfs.mode.unwrap_or(TMPFS_MODE),
            }),
            None | Some("volume") => Kind::Volume(v1::VolumeMount {
                name: self.source.unwrap_or_default(),
                labels: self.volume.labels,
                no_copy: self.volume.no_copy.unwrap_or(false),
                subpath: self.volume.subpath.unwrap_or_default(),
            }),
            Some("image") => {
                let reference = self.source.ok_or("the source is missing; add source=IMAGE")?;
                Kind::Image(v1::ImageMount {
                    image: Some(v1::PinnedImage { reference, digest: String::new() }),
                    subpath: self.image_subpath.unwrap_or_default(),
                })
            }
            Some(other) => return Err(format!("unknown type {other:?}; use bind, tmpfs, volume or image")),
        };
        Ok(v1::Mount { target, read_only: self.read_only.unwrap_or(false), kind: Some(kind) })
    }

    /// Fields of another type are a mistake.
    fn check_kind(&self) -> Result<(), String> {
        let kind = self.kind.as_deref().unwrap_or("volume");
        for (owner, fields, given) in [
            ("bind", "bind-propagation, bind-recursive and bind-create-src go", self.bind != Bind::default()),
            ("tmpfs", "tmpfs-size and tmpfs-mode go", self.tmpfs != Tmpfs::default()),
            ("volume", "volume-label, volume-nocopy and volume-subpath go", self.volume != Volume::default()),
            ("image", "image-subpath goes", self.image_subpath.is_some()),
        ] {
            if given && kind != owner {
                return Err(format!("{fields} with type={owner} only"));
            }
        }
        Ok(())
    }
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key}={other}: use true or false")),
    }
}

fn propagation(text: &str) -> Result<Propagation, String> {
    Propagation::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
        format!("bind-propagation={text}: use rprivate, private, shared, rshared, slave or rslave")
    })
}

fn recursive(text: &str) -> Result<Recursive, String> {
    let known = Recursive::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or_else(|| format!("bind-recursive={text}: use enabled, disabled, writable or readonly"))
}

impl fmt::Display for MountFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = Vec::new();
        match &self.0.kind {
            Some(Kind::Bind(bind)) => {
                fields.extend(["type=bind".to_owned(), format!("source={}", bind.source)]);
                let propagation = Propagation::from(bind.propagation());
                if propagation != Propagation::default() {
                    fields.push(format!("bind-propagation={}", propagation.as_str()));
                }
                let recursive = Recursive::from(bind.recursive());
                if recursive != Recursive::default() {
                    fields.push(format!("bind-recursive={}", recursive.as_str()));
                }
                fields.extend(bind.create_source.then(|| "bind-create-src".to_owned()));
            }
            Some(Kind::Tmpfs(tmpfs)) => {
                fields.push("type=tmpfs".to_owned());
                fields.push(format!("tmpfs-size={}", tmpfs.size));
                fields.push(format!("tmpfs-mode={:o}", tmpfs.mode));
            }
            Some(Kind::Volume(volume)) => {
                fields.push("type=volume".to_owned());
                fields.extend((!volume.name.is_empty()).then(|| format!("source={}", volume.name)));
                let mut labels: Vec<_> = volume.labels.iter().collect();
                labels.sort();
                fields.extend(labels.iter().map(|(key, value)| format!("volume-label={key}={value}")));
                fields.extend(volume.no_copy.then(|| "volume-nocopy".to_owned()));
                fields.extend(
                    (!volume.subpath.is_empty()).then(|| format!("volume-subpath={}", volume.subpath)),
                );
            }
            Some(Kind::Image(image)) => {
                let reference = image.image.as_ref().map_or("", |image| &image.reference);
                fields.extend(["type=image".to_owned(), format!("source={reference}")]);
                fields
                    .extend((!image.subpath.is_empty()).then(|| format!("image-subpath={}", image.subpath)));
            }
            None => {}
        }
        // The target second, where people look for it.
        let at = fields.len().min(if matches!(self.0.kind, Some(Kind::Tmpfs(_))) { 1 } else { 2 });
        fields.insert(at, format!("target={}", self.0.target));
        fields.extend(self.0.read_only.then(|| "readonly".to_owned()));
        let fields: Vec<String> = fields.iter().map(|field| csv::field(field)).collect();
        f.write_str(&fields.join(","))
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
    fn every_type_reads_back() {
        for text in [
            "type=bind,source=/a,target=/b,bind-propagation=rslave,bind-recursive=readonly,bind-create-src,readonly",
            "type=volume,target=/b",
            "type=volume,source=data,target=/b,volume-label=a=1,volume-label=b=,volume-nocopy,volume-subpath=x/y",
            "type=image,source=web:1,target=/b,image-subpath=srv",
        ] {
            let mount: MountFlag = text.parse().unwrap();
            assert_eq!(mount.to_string(), text);
        }
        let short: MountFlag = "source=data,target=/b".parse().unwrap();
        assert_eq!(short.to_string(), "type=volume,source=data,target=/b");
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (text, part) in [
            ("", "unknown field \"\""),
            (
                "/a:/b",
                "write its fields: type=bind,source=PATH,target=PATH or type=volume,source=NAME,target=PATH",
            ),
            ("type=bind,target=/b", "the source is missing"),
            ("type=bind,source=/a", "the target is missing"),
            ("type=volume,source=v,target=/b,volume-driver=nfs", "the only volume driver is local"),
            ("source=v,target=/b,bind-propagation=shared", "go with type=bind only"),
            ("type=bind,source=/a,target=/b,bind-propagation=some", "use rprivate, private"),
            ("type=image,target=/b", "add source=IMAGE"),
            ("type=bind,source=/a,target=/b,consistency=cached", "it means nothing on Linux"),
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
