//! Hooks of CDI files: programs of the host that are run while a container is made, as the OCI runtime specification
//! ("POSIX-platform Hooks") has them. NVIDIA's files make links and the cache of the dynamic linker with them.
//!
//! They are run as root, so they are taken only from files that nobody but root can have written.

use coracle_runtime_protocol::HookPlace;
use serde::Deserialize;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How long one may take that does not say so. Far longer than any vendor's needs.
const SECONDS: u64 = 30;
/// The longest that one may ask for. All hooks of a container together have a little more (`plan::hook`).
const MOST_SECONDS: u64 = 45;

/// What is to be run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The device that it was first found at.
    pub(crate) device: String,
    pub(crate) when: When,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) seconds: u64,
}

/// The kinds of hooks, in the order in which they are run (OCI runtime specification, "Lifecycle").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum When {
    Prestart,
    CreateRuntime,
    CreateContainer,
}

impl When {
    pub(crate) fn place(self) -> HookPlace {
        match self {
            Self::Prestart | Self::CreateRuntime => HookPlace::Host,
            Self::CreateContainer => HookPlace::Container,
        }
    }
}

impl Hook {
    /// Whether it does the same, for whichever device.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Self { device: other.device.clone(), ..self.clone() } == *other
    }
}

/// As it stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    hook_name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    timeout: Option<i64>,
}

impl Entry {
    /// The hook, or why it cannot be run.
    pub(super) fn read(self, device: &str) -> Result<Hook, String> {
        let Self { hook_name, path, mut args, env, timeout } = self;
        let when = match hook_name.as_str() {
            "prestart" => When::Prestart,
            "createRuntime" => When::CreateRuntime,
            "createContainer" => When::CreateContainer,
            _ => {
                return Err(format!(
                    "it needs a {hook_name} hook ({}), and only createRuntime, prestart and createContainer hooks are run",
                    path.display()
                ));
            }
        };
        let refuse =
            |what: &str| Err(format!("its {hook_name} hook {:?} {what}", path.display().to_string()));
        if !path.is_absolute() {
            return refuse("has no absolute path");
        }
        if args.iter().chain(&env).any(|text| text.contains('\0'))
            || path.as_os_str().as_encoded_bytes().contains(&0)
        {
            return refuse("has a NUL byte in its path, arguments or variables");
        }
        if let Some(entry) = env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
            return refuse(&format!("has the variable {entry:?}, which is not NAME=value"));
        }
        let seconds = match timeout {
            None => SECONDS,
            Some(timeout) => match u64::try_from(timeout) {
                Ok(seconds) if (1..=MOST_SECONDS).contains(&seconds) => seconds,
                Ok(seconds) if seconds > MOST_SECONDS => MOST_SECONDS,
                _ => return refuse(&format!("has the timeout {timeout}, which is no number of seconds")),
            },
        };
        if args.is_empty() {
            args.push(path.display().to_string());
        }
        let device = device.to_owned();
        Ok(Hook { device, when, path, arguments: args, environment: env, seconds })
    }
}

/// Why the hooks of a file are not run, if somebody else than root may have written them.
///
/// The path has no links, and `opened` is of the file that was read. Folders are looked at afterwards, all of them: whoever
/// may write one of them may have put another file in the place of root's.
pub(super) fn distrust(path: &Path, opened: &Metadata) -> Option<String> {
    if may_be_foreign(opened, 0) {
        return Some(others_may_write(path));
    }
    for (height, folder) in path.ancestors().skip(1).enumerate() {
        // In a sticky folder nobody may replace what is root's. But anybody may add a file.
        let harmless = if height == 0 { 0 } else { 0o1000 };
        match fs::symlink_metadata(folder) {
            Err(error) => return Some(format!("{} cannot be looked at: {error}", folder.display())),
            Ok(found) if may_be_foreign(&found, harmless) => return Some(others_may_write(folder)),
            Ok(_) => {}
        }
    }
    None
}

/// Whether others than root own it or may write it, unless one of the harmless bits is in its mode.
fn may_be_foreign(found: &Metadata, harmless: u32) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let writable = found.mode() & 0o022 != 0 && found.mode() & harmless == 0;
    ![0, ours].contains(&found.uid()) || writable
}

fn others_may_write(path: &Path) -> String {
    format!(
        "its hooks are programs that are run as root, and others than root may write {}; give it to root and take the right \
         to write from everybody else (chown root, chmod go-w)",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn read(text: &str) -> Result<Hook, String> {
        serde_json::from_str::<Entry>(text).map_err(|error| error.to_string())?.read("v.com/c=0")
    }

    #[test]
    fn what_a_hook_says() {
        let hook = read(
            r#"{"hookName":"createContainer","path":"/bin/x","args":["x","a"],"env":["A=1","B="],"timeout":7}"#,
        )
        .unwrap();
        assert_eq!(
            (hook.when, hook.when.place(), hook.seconds),
            (When::CreateContainer, HookPlace::Container, 7)
        );
        assert_eq!((hook.arguments.len(), hook.environment.len()), (2, 2));
        let hook = read(r#"{"hookName":"prestart","path":"/bin/x"}"#).unwrap();
        assert_eq!(
            (hook.when, hook.seconds, hook.arguments.clone()),
            (When::Prestart, SECONDS, vec!["/bin/x".to_owned()])
        );
        let later = read(r#"{"hookName":"createRuntime","path":"/bin/x"}"#).unwrap();
        assert!(!hook.is_same(&later), "each is run in its turn");
        let hook = read(r#"{"hookName":"createRuntime","path":"/bin/x","timeout":3600}"#).unwrap();
        assert_eq!((hook.when.place(), hook.seconds), (HookPlace::Host, MOST_SECONDS));
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        for (text, why) in [
            (r#"{"hookName":"poststop","path":"/bin/x"}"#, "a poststop hook (/bin/x)"),
            (r#"{"hookName":"startContainer","path":"/bin/x"}"#, "startContainer"),
            (r#"{"hookName":"createContainer","path":"bin/x"}"#, "\"bin/x\" has no absolute path"),
            (r#"{"hookName":"createContainer","path":"/bin/x","args":["a\u0000"]}"#, "NUL"),
            (r#"{"hookName":"createContainer","path":"/bin/\u0000"}"#, "NUL"),
            (r#"{"hookName":"createContainer","path":"/bin/x","env":["=1"]}"#, "\"=1\""),
            (r#"{"hookName":"createContainer","path":"/bin/x","env":["A"]}"#, "\"A\""),
            (r#"{"hookName":"createContainer","path":"/bin/x","timeout":0}"#, "timeout 0"),
            (r#"{"hookName":"createContainer","path":"/bin/x","timeout":-1}"#, "timeout -1"),
            (r#"{"hookName":"createContainer","path":"/bin/x","when":{}}"#, "`when`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn files_that_others_may_write_are_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let cdi = folder.path().join("cdi");
        let file = cdi.join("a.json");
        fs::create_dir(&cdi).unwrap();
        fs::write(&file, "").unwrap();
        let judge = || distrust(&file, &fs::metadata(&file).unwrap());
        let with = |path: &Path, mode: u32| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            judge()
        };
        assert_eq!(with(&file, 0o644), None);
        assert!(with(&file, 0o664).unwrap().contains("a.json"));
        assert!(with(&file, 0o646).is_some());
        assert!(with(&file, 0o1666).is_some(), "sticky means nothing for a file");
        assert_eq!(with(&file, 0o600), None);
        assert!(with(&cdi, 0o777).unwrap().contains("others than root may write"));
        assert!(with(&cdi, 0o1777).unwrap().contains("cdi"), "anybody may add a file");
        assert_eq!(with(&cdi, 0o755), None);
        assert!(with(folder.path(), 0o777).is_some(), "anybody may put another folder there");
        assert_eq!(with(folder.path(), 0o1777), None);
        assert_eq!(with(folder.path(), 0o755), None);
        if rustix::process::geteuid().is_root() {
            for path in [folder.path(), &cdi, &file] {
                std::os::unix::fs::chown(path, Some(7), None).unwrap();
                assert!(judge().is_some(), "{}", path.display());
                std::os::unix::fs::chown(path, Some(0), None).unwrap();
            }
        }
        assert_eq!(judge(), None);
        let found = fs::metadata(&file).unwrap();
        fs::rename(&cdi, folder.path().join("aside")).unwrap();
        assert!(distrust(&file, &found).unwrap().contains("cannot be looked at"));
    }
}
