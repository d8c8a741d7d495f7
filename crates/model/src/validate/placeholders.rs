//! Placeholders in the fields of a container: which fields have them, and what the fields become.
//!
//! Managers fill them in with an example, so that what could never be right is refused at once; agents with the task's own values,
//! and check again, because a label or a host name may be anything.

use crate::mount::{Mount, MountKind};
use crate::service::{ContainerSpec, ServiceSpec, TaskSpec};
use crate::template::{Template, TemplateError, Values, Words, has_placeholders};

use super::{Invalid, TEXT_LIMIT, files, hostname, invalid, mounts, text};

/// A container whose placeholders are filled in, and that is still one that may be.
///
/// # Errors
/// The first thing that is wrong.
pub fn filled(container: &ContainerSpec, values: &Values) -> Result<ContainerSpec, Invalid> {
    let filled = fill(container, values)?;
    if filled != *container {
        hostname(&filled.hostname)?;
        filled.env.iter().try_for_each(|variable| text("env", variable))?;
        mounts(&filled.mounts)?;
        files(&filled)?;
    }
    Ok(filled)
}

/// Checks a task with an example of what its placeholders become.
pub(super) fn check(
    spec: &ServiceSpec,
    task: impl Fn(&TaskSpec) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let container = fill(&spec.task.container, &Values::example(spec))?;
    if container == spec.task.container {
        return task(&spec.task);
    }
    task(&TaskSpec { container, ..spec.task.clone() }).map_err(|error| {
        if task(&spec.task).as_ref() == Err(&error) {
            return error;
        }
        // The value was not given in these words.
        let problem = format!("{}; this is an example of what its placeholders become", error.problem);
        Invalid { problem, ..error }
    })
}

fn fill(container: &ContainerSpec, values: &Values) -> Result<ContainerSpec, Invalid> {
    let mut filled = container.clone();
    filled.hostname = field("hostname", &container.hostname, values)?;
    filled.env.iter_mut().try_for_each(|variable| environment(variable, values))?;
    filled.mounts.iter_mut().try_for_each(|one| mount(one, values))?;
    Ok(filled)
}

/// The value of a variable may be a secret: only its name is told, and the placeholder that is wrong.
fn environment(variable: &mut String, values: &Values) -> Result<(), Invalid> {
    let Some((name, value)) = variable.split_once('=') else { return Ok(()) };
    if has_placeholders(value) {
        let value = one(value, values, |problem| invalid("env", name, format!("{problem} (in its value)")))?;
        *variable = format!("{name}={value}");
    }
    Ok(())
}

fn mount(mount: &mut Mount, values: &Values) -> Result<(), Invalid> {
    mount.target = field("mount target", &mount.target, values)?;
    match &mut mount.kind {
        MountKind::Bind { source, .. } => *source = field("mount source", source, values)?,
        MountKind::Volume { name, labels, .. } => {
            let filled = field("mount source", name, values)?;
            // Without a name it would be another one for each task, and lost with it.
            if filled.is_empty() && !name.is_empty() {
                return invalid("mount source", name, "its placeholders leave nothing of the volume's name");
            }
            *name = filled;
            for value in labels.values_mut() {
                *value = field("volume-label", value, values)?;
            }
        }
        MountKind::Tmpfs { .. } | MountKind::Image { .. } => {}
    }
    Ok(())
}

fn field(field: &'static str, text: &str, values: &Values) -> Result<String, Invalid> {
    if !has_placeholders(text) {
        return Ok(text.to_owned());
    }
    one(text, values, |problem| invalid(field, text, problem))
}

fn one(
    text: &str,
    values: &Values,
    refuse: impl Fn(String) -> Result<String, Invalid>,
) -> Result<String, Invalid> {
    let template = match Template::parse(text, Words::Specification) {
        Ok(template) => template,
        Err(error) => return refuse(TemplateError::to_string(&error)),
    };
    let value = |placeholder| values.get(placeholder).map(str::as_bytes).ok_or(());
    let Ok(pieces) = template.pieces(value) else {
        return refuse("it asks for what only secrets and configs are given".to_owned());
    };
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > TEXT_LIMIT {
        return refuse(format!("longer than {TEXT_LIMIT} bytes when its placeholders are filled in"));
    }
    Ok(String::from_utf8_lossy(&pieces.concat()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::mount::{Propagation, Recursive};
    use crate::service::{PinnedImage, ServiceMode};

    fn service() -> ServiceSpec {
        let image = PinnedImage { reference: "web:1".to_owned(), digest: Digest::from_bytes([1; 32]) };
        let task = TaskSpec::of(ContainerSpec::of(image));
        let mut spec = ServiceSpec::of("web".parse().unwrap(), ServiceMode::Replicated { replicas: 1 }, task);
        for (key, value) in [("zone", "a"), ("up", ".."), ("long", &"x".repeat(TEXT_LIMIT - 1))] {
            spec.labels.insert(key.to_owned(), value.to_owned());
        }
        spec
    }

    fn bind(source: &str, target: &str) -> Mount {
        let kind = MountKind::Bind {
            source: source.to_owned(),
            propagation: Propagation::default(),
            recursive: Recursive::default(),
            create_source: false,
        };
        Mount { target: target.to_owned(), read_only: false, kind }
    }

    fn volume(name: &str, label: &str) -> Mount {
        let kind = MountKind::Volume {
            name: name.to_owned(),
            labels: [("l".to_owned(), label.to_owned())].into(),
            no_copy: false,
            subpath: String::new(),
        };
        Mount { target: "/v".to_owned(), read_only: false, kind }
    }

    /// What an agent makes of the container, or why it does not.
    fn made(change: impl FnOnce(&mut ContainerSpec)) -> Result<ContainerSpec, String> {
        let mut spec = service();
        change(&mut spec.task.container);
        filled(&spec.task.container, &Values::example(&spec)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_that_may_have_placeholders_is_filled_in() {
        let zone = "{{index .Service.Labels \"zone\"}}";
        let container = made(|c| {
            c.hostname = "{{.Service.Name}}-{{.Task.Slot}}".to_owned();
            c.env = vec!["{{A}}=1".to_owned(), format!("ZONE={zone}=b"), "PLAIN=x".to_owned()];
            c.mounts = vec![
                bind(&format!("/srv/{zone}"), &format!("/data/{zone}")),
                volume(&format!("v-{zone}"), zone),
            ];
            // Not one of the fields.
            c.args = vec![zone.to_owned()];
        })
        .unwrap();
        assert_eq!(container.hostname, "web-1");
        assert_eq!(container.env, ["{{A}}=1", "ZONE=a=b", "PLAIN=x"]);
        assert_eq!(container.mounts, [bind("/srv/a", "/data/a"), volume("v-a", "a")]);
        assert_eq!(container.args, [zone]);
    }

    #[test]
    fn what_they_become_is_checked_again() {
        let up = "{{index .Service.Labels \"up\"}}";
        let no_dots = "a path with '..' is not accepted";
        let cases: [(Result<ContainerSpec, String>, String); 7] = [
            (
                made(|c| c.hostname = format!("a{up}b")),
                "hostname: invalid value \"a..b\": use letters, digits, '-' and '.', at most 64 characters".into(),
            ),
            (
                made(|c| c.mounts = vec![bind(&format!("/srv/{up}/etc"), "/data")]),
                format!("mount source: invalid value \"/srv/../etc\": {no_dots}"),
            ),
            (
                made(|c| c.mounts = vec![bind("/srv", &format!("/data/{up}"))]),
                format!("mount target: invalid value \"/data/..\": {no_dots}"),
            ),
            (
                made(|c| c.mounts = vec![bind("/srv", "{{.Service.Name}}")]),
                "mount target: invalid value \"web\": use an absolute path".into(),
            ),
            (
                made(|c| c.mounts = vec![volume(up, "")]),
                "mount source: invalid value \"..\": a volume has a name of letters, digits, '_', '.' and '-'; for a path of the \
                 node use type=bind"
                    .into(),
            ),
            (
                made(|c| c.mounts = vec![volume("{{index .Service.Labels `none`}}", "")]),
                "mount source: invalid value \"{{index .Service.Labels `none`}}\": its placeholders leave nothing of the \
                 volume's name"
                    .into(),
            ),
            (
                made(|c| c.env = vec!["A=xx{{index .Service.Labels `long`}}".to_owned()]),
                "env: invalid value \"A\": longer than 131072 bytes when its placeholders are filled in (in its value)".into(),
            ),
        ];
        for (made, expected) in cases {
            assert_eq!(made.unwrap_err(), expected);
        }
    }
}
