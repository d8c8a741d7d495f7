//! Devices by their names in the node's CDI files (Container Device Interface specification 0.8): what has to be in a
//! container for it to use one, such as a graphics card with its libraries.

mod hook;
mod yaml;

use crate::error::RuntimeError;
use crate::spec::{BindOptions, ContainerSpec, Device, Mount, Propagation};
pub(crate) use hook::Hook;
#[cfg(test)]
pub(crate) use hook::When;
use rustix::fs::OFlags;
use serde::Deserialize;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Far more than any vendor writes.
const FILE_BYTES: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "cdiVersion")]
    _version: String,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: serde_json::Value,
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: serde_json::Value,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Place>,
    hooks: Vec<hook::Entry>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

/// Type and numbers are looked up on the host, so those in the file are not needed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    #[serde(default)]
    host_path: Option<String>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

fn refused(value: &str, why: impl Into<String>) -> RuntimeError {
    RuntimeError::InvalidSpec { field: "CDI device", value: value.to_owned(), why: why.into() }
}

/// Puts what the devices need into the specification. Returns the programs that they need run.
pub(crate) fn apply(spec: &mut ContainerSpec, folders: &[PathBuf]) -> Result<Vec<Hook>, RuntimeError> {
    let mut hooks: Vec<Hook> = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for name in std::mem::take(&mut spec.cdi_devices) {
        let (file, edits) = find(&name, folders)?;
        // What all devices of a file need comes once, before what the first of them needs.
        let is_known = files.contains(&file);
        files.push(file);
        for mut edits in edits.into_iter().skip(usize::from(is_known)) {
            for entry in std::mem::take(&mut edits.hooks) {
                let hook = entry.read(&name).map_err(|why| refused(&name, why))?;
                if !hooks.iter().any(|known| known.is_same(&hook)) {
                    hooks.push(hook);
                }
            }
            edit(spec, &name, edits)?;
        }
    }
    Ok(hooks)
}

/// The file, its edits, and those of the device.
fn find(name: &str, folders: &[PathBuf]) -> Result<(PathBuf, [Edits; 2]), RuntimeError> {
    let (kind, device) =
        name.split_once('=').ok_or_else(|| refused(name, "write it as VENDOR/CLASS=NAME"))?;
    let mut found = None;
    let mut problem = None;
    for folder in folders {
        for path in files(folder) {
            let (opened, file) = match read(&path) {
                Ok(read) => read,
                Err(why) => {
                    problem.get_or_insert_with(|| format!("; {} cannot be read: {why}", path.display()));
                    continue;
                }
            };
            if file.kind == kind
                && let Some(device) = file.devices.into_iter().find(|known| known.name == device)
            {
                found = Some((path, opened, [file.container_edits, device.container_edits]));
            }
        }
    }
    let problem = problem.unwrap_or_default();
    let (path, opened, edits) = found.ok_or_else(|| {
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        refused(name, format!("no file in {} of this node has it{problem}", folders.join(" or ")))
    })?;
    let has_hooks = edits.iter().any(|edits| !edits.hooks.is_empty());
    match has_hooks.then(|| hook::distrust(&opened.path, &opened.found)).flatten() {
        Some(why) => Err(refused(name, why)),
        None => Ok((path, edits)),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json" || end == "yaml"))
        .collect();
    files.sort();
    files
}

/// What was opened to read a file.
struct Opened {
    /// Without links.
    path: PathBuf,
    found: fs::Metadata,
}

/// What the file says, and what it is.
fn read(path: &Path) -> Result<(Opened, File), String> {
    let told = |error: io::Error| error.to_string();
    let is_yaml = path.extension().is_some_and(|end| end == "yaml");
    let path = fs::canonicalize(path).map_err(told)?;
    // A named pipe would not answer.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let open = fs::File::options().read(true).custom_flags(flags).open(&path).map_err(told)?;
    let found = open.metadata().map_err(told)?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    (&open).take(FILE_BYTES + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(format!("it has more than {FILE_BYTES} bytes"));
    }
    let file =
        if is_yaml { serde_json::from_value(yaml::value(&text)?) } else { serde_json::from_str(&text) };
    Ok((Opened { path, found }, file.map_err(|error| error.to_string())?))
}

fn edit(spec: &mut ContainerSpec, name: &str, edits: Edits) -> Result<(), RuntimeError> {
    if edits.intel_rdt.is_some() || !edits.net_devices.is_empty() {
        return Err(refused(name, "it needs intelRdt or netDevices, which are not supported"));
    }
    for variable in edits.env {
        let known = variable.split('=').next();
        spec.env.retain(|entry| entry.split('=').next() != known);
        spec.env.push(variable);
    }
    for node in edits.device_nodes {
        let host = node.host_path.unwrap_or_else(|| node.path.clone());
        let permissions = node.permissions.unwrap_or_else(|| "rwm".to_owned());
        let device = Device { host: host.into(), container: node.path, permissions };
        if !spec.devices.contains(&device) {
            spec.devices.push(device);
        }
    }
    for place in edits.mounts {
        let mount = mount(name, place)?;
        if !spec.mounts.contains(&mount) {
            spec.mounts.push(mount);
        }
    }
    spec.user.additional_groups.extend(edits.groups.iter().map(u32::to_string));
    Ok(())
}

fn mount(name: &str, place: Place) -> Result<Mount, RuntimeError> {
    if place.kind.is_some_and(|kind| !matches!(kind.as_str(), "" | "bind" | "none")) {
        return Err(refused(
            name,
            format!("it mounts {} as something else than a bind", place.container_path),
        ));
    }
    let known = ["ro", "rw", "bind", "rbind", "nosuid", "nodev", "private", "rprivate", "rslave", "noexec"];
    if let Some(bad) = place.options.iter().find(|option| !known.contains(&option.as_str())) {
        return Err(refused(name, format!("it mounts {} with the option {bad}", place.container_path)));
    }
    let has = |option: &str| place.options.iter().any(|known| known == option);
    Ok(Mount::Bind {
        source: place.host_path.into(),
        target: place.container_path,
        read_only: has("ro"),
        recursive: has("rbind") || !has("bind"),
        options: BindOptions {
            propagation: if has("rslave") { Propagation::Slave } else { Propagation::Private },
            no_execute: has("noexec"),
            ..BindOptions::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> (tempfile::TempDir, [PathBuf; 1]) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("vendor.json"), text).unwrap();
        fs::write(folder.path().join("other.json"), "nonsense").unwrap();
        let folders = [folder.path().to_owned()];
        (folder, folders)
    }

    fn applied(text: &str, names: &[&str]) -> Result<(ContainerSpec, Vec<Hook>), RuntimeError> {
        let (_folder, folders) = folder(text);
        let mut spec = ContainerSpec::new(vec!["/layer".into()], vec!["true".into()]);
        spec.env = vec!["A=1".into()];
        spec.cdi_devices = names.iter().map(|&name| name.to_owned()).collect();
        apply(&mut spec, &folders).map(|hooks| (spec, hooks))
    }

    const GOOD: &str = r#"{"cdiVersion":"0.6.0","kind":"vendor.com/card","devices":[
        {"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/card0","hostPath":"/dev/null","permissions":"rw"}],
            "env":["A=2"],"additionalGids":[7]}},
        {"name":"1","containerEdits":{"hooks":[{"hookName":"createContainer","path":"/bin/x"},
            {"hookName":"createContainer","path":"/bin/y"}]}},
        {"name":"late","containerEdits":{"hooks":[{"hookName":"poststop","path":"/bin/x"}]}}],
        "containerEdits":{"env":["CARD=yes"],"hooks":[{"hookName":"createContainer","path":"/bin/x"}],
            "mounts":[{"hostPath":"/usr/lib/card","containerPath":"/usr/lib/card",
            "options":["ro","nosuid","bind"]},{"hostPath":"/run/card","containerPath":"/run/card",
            "options":["noexec","rbind","rslave"]}]}}"#;

    #[test]
    fn edits_of_the_file_and_of_the_device() {
        let (spec, hooks) = applied(GOOD, &["vendor.com/card=0", "vendor.com/card=1"]).unwrap();
        assert_eq!(spec.env, ["CARD=yes", "A=2"]);
        assert_eq!(spec.devices[0].host, Path::new("/dev/null"));
        assert_eq!(spec.devices[0].container, "/dev/card0");
        assert_eq!(spec.user.additional_groups, ["7"]);
        let Mount::Bind { read_only: true, recursive: false, options, .. } = &spec.mounts[0] else {
            panic!()
        };
        assert_eq!(*options, BindOptions::default());
        let Mount::Bind { read_only: false, recursive: true, options, .. } = &spec.mounts[1] else {
            panic!()
        };
        assert!(options.no_execute && options.propagation == Propagation::Slave);
        assert_eq!(spec.mounts.len(), 2);
        assert!(spec.cdi_devices.is_empty());
        // Each once, for the first that has it.
        let hooks: Vec<_> =
            hooks.iter().map(|hook| (hook.path.to_str().unwrap(), hook.device.as_str())).collect();
        assert_eq!(hooks, [("/bin/x", "vendor.com/card=0"), ("/bin/y", "vendor.com/card=1")]);
    }

    #[test]
    fn what_a_device_needs_counts_more_than_what_all_of_its_file_need() {
        let text = r#"{"cdiVersion":"0.6.0","kind":"vendor.com/card","devices":[
            {"name":"0","containerEdits":{"env":["X=b"]}},{"name":"1"}],
            "containerEdits":{"env":["X=a"],"additionalGids":[7]}}"#;
        let (spec, _) = applied(text, &["vendor.com/card=0", "vendor.com/card=1"]).unwrap();
        assert_eq!(spec.env, ["A=1", "X=b"]);
        assert_eq!(spec.user.additional_groups, ["7"]);
    }

    #[test]
    fn the_same_in_yaml() {
        let folder = tempfile::tempdir().unwrap();
        let text = "cdiVersion: 0.6.0\nkind: vendor.com/card\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    \
                    - path: /dev/card0\n      hostPath: /dev/null\n      permissions: rw\n    additionalGids: [7]\ncontainerEdits:\n  \
                    env:\n  - CARD=yes\n";
        fs::write(folder.path().join("vendor.yaml"), text).unwrap();
        fs::write(folder.path().join("odd.yaml"), "kind: [\n").unwrap();
        let folders = [folder.path().to_owned()];
        let mut spec = ContainerSpec::new(vec!["/layer".into()], vec!["true".into()]);
        spec.cdi_devices = vec!["vendor.com/card=0".into()];
        apply(&mut spec, &folders).unwrap();
        assert_eq!(
            (spec.env, spec.user.additional_groups),
            (vec!["CARD=yes".to_owned()], vec!["7".to_owned()])
        );
        assert_eq!(
            (spec.devices[0].container.as_str(), spec.devices[0].permissions.as_str()),
            ("/dev/card0", "rw")
        );
        let mut spec = ContainerSpec::new(vec!["/layer".into()], vec!["true".into()]);
        spec.cdi_devices = vec!["vendor.com/card=9".into()];
        let error = apply(&mut spec, &folders).unwrap_err().to_string();
        assert!(error.contains("odd.yaml cannot be read: "), "{error}");
    }

    #[test]
    fn hooks_of_files_that_others_may_write_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, folders) = folder(GOOD);
        let file = folder.path().join("vendor.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let mut spec = ContainerSpec::new(vec!["/layer".into()], vec!["true".into()]);
        spec.cdi_devices = vec!["vendor.com/card=0".into()];
        let error = apply(&mut spec, &folders).unwrap_err();
        assert!(error.is_rejection() && error.to_string().contains("chmod go-w"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, why) in [
            ("vendor.com/card=7", "no file in /"),
            ("vendor.com/other=0", "other.json cannot be read"),
            ("vendor.com/card", "VENDOR/CLASS=NAME"),
            ("vendor.com/card=late", "a poststop hook (/bin/x)"),
        ] {
            let error = applied(GOOD, &[name]).unwrap_err();
            assert!(error.is_rejection());
            let error = error.to_string();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
    }
}
