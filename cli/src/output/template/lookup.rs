//! Finding the field that a template names: by our names, else by Docker's, else telling which one may be meant.

use coracle_model::similar;
use serde_json::Value;

use super::docker::Names;
use super::{TemplateError, normal};

/// The field at a path.
///
/// # Errors
/// When the object has no such field by any name.
pub(super) fn lookup<'a>(
    object: &'a Value,
    path: &[String],
    names: Names,
) -> Result<&'a Value, TemplateError> {
    match walk(object, path) {
        Ok(value) => Ok(value),
        Err(missing) => match translated(path, names) {
            Some(path) => walk(object, &path).map_err(|missing| missing.told(object, &path)),
            None => Err(missing.told(object, path)),
        },
    }
}

/// How far a path goes.
struct Missing<'a> {
    /// Names of it that were found.
    found: Vec<&'a str>,
    /// What there is below these; nothing where that has no fields.
    fields: Vec<&'a str>,
}

/// What is below a field that has no value has none either.
fn walk<'a>(object: &'a Value, path: &[String]) -> Result<&'a Value, Missing<'a>> {
    let (mut value, mut found) = (object, Vec::new());
    for name in path {
        let fields = match value {
            Value::Null => return Ok(value),
            Value::Object(fields) => fields,
            _ => return Err(Missing { found, fields: Vec::new() }),
        };
        let entry =
            fields.get_key_value(name).or_else(|| fields.iter().find(|(key, _)| normal(key) == normal(name)));
        let Some((key, next)) = entry else {
            return Err(Missing { found, fields: fields.keys().map(String::as_str).collect() });
        };
        found.push(key);
        value = next;
    }
    Ok(value)
}

/// The path by our names.
fn translated(path: &[String], names: Names) -> Option<Vec<String>> {
    names.iter().find_map(|(theirs, ours)| {
        let theirs: Vec<&str> = theirs.split('.').collect();
        let fits = theirs.len() <= path.len()
            && theirs.iter().zip(path).all(|(theirs, name)| normal(theirs) == normal(name));
        let rest = || path[theirs.len()..].iter().cloned();
        fits.then(|| ours.split('.').map(str::to_owned).chain(rest()).collect())
    })
}

impl Missing<'_> {
    fn told(&self, object: &Value, path: &[String]) -> TemplateError {
        let before: String = self.found.iter().map(|name| format!(".{name}")).collect();
        let known: Vec<String> = self.fields.iter().map(|field| format!("{before}.{field}")).collect();
        TemplateError::Unknown {
            name: path.get(self.found.len()).cloned().unwrap_or_default(),
            meant: meant(object, path).map(|path| format!("did you mean {path}? ")).unwrap_or_default(),
            known: if known.is_empty() {
                format!("{before} has no fields")
            } else {
                format!("there are {}", known.join(", "))
            },
        }
    }
}

/// The field whose own name is most like that of the path's last one; among equals the one with more of the path's other names,
/// then the one that is nearest to the top.
fn meant(object: &Value, path: &[String]) -> Option<String> {
    let (last, others) = path.split_last()?;
    let (last, others) = (normal(last), others.iter().map(|name| normal(name)).collect::<Vec<_>>());
    let mut all = Vec::new();
    collect(object, &mut Vec::new(), &mut all);
    let ranked = all.into_iter().filter_map(|candidate| {
        let (name, above) = candidate.split_last()?;
        let strangers = others.iter().filter(|other| !above.iter().any(|name| normal(name) == **other));
        Some((likeness(&last, &normal(name))?, strangers.count(), candidate.len(), candidate))
    });
    let (.., nearest) = ranked.min()?;
    Some(nearest.iter().map(|name| format!(".{name}")).collect())
}

/// Less is more alike.
fn likeness(asked: &str, name: &str) -> Option<usize> {
    let begins = asked.len() >= 3 && (name.starts_with(asked) || name.len() >= 3 && asked.starts_with(name));
    match similar::distance(asked, name) {
        Some(distance) => Some(distance),
        None => begins.then_some(asked.len()),
    }
}

/// The paths of all fields, not those within lists.
fn collect<'a>(value: &'a Value, above: &mut Vec<&'a str>, all: &mut Vec<Vec<&'a str>>) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        above.push(name);
        all.push(above.clone());
        collect(value, above, all);
        above.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Template, docker};

    fn rendered(template: &str) -> String {
        let object = json!({
            "id": "abc", "version": 7, "update": null, "previous_spec": null,
            "spec": {
                "name": "web", "mode": "replicated", "replicas": 3, "labels": {"team": "a"},
                "update": {"parallelism": 2, "delay_ns": 5},
                "task": {
                    "container": {"image": "nginx:1", "args": ["a"], "labels": {"x": "y"}},
                    "limits": {"nano_cpus": 9}, "placement": {"host_ports": ["80:80"]},
                },
            },
        });
        match template.parse::<Template>().unwrap().render_with(&object, docker::SERVICE) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_that_were_written_for_docker_do() {
        for (template, expected) in [
            ("{{.ID}} {{.Version.Index}} {{.Version}}", "abc 7 7"),
            ("{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}} {{json .Spec.Mode}}", "web 3 \"replicated\""),
            ("{{.Spec.TaskTemplate.ContainerSpec.Image}}", "nginx:1"),
            ("{{json .Spec.TaskTemplate.ContainerSpec.Args}}", "[\"a\"]"),
            ("{{index .Spec.TaskTemplate.ContainerSpec.Labels \"x\"}}", "y"),
            ("{{.Spec.TaskTemplate.Resources.Limits.NanoCPUs}}", "9"),
            ("{{.Spec.UpdateConfig.Parallelism}}", "2"),
            ("{{json .Endpoint.Ports}}", "[\"80:80\"]"),
            ("<{{.UpdateStatus.State}}{{.PreviousSpec.TaskTemplate.ContainerSpec.Image}}>", "<>"),
        ] {
            assert_eq!(rendered(template), expected, "{template}");
        }
    }

    #[test]
    fn what_may_be_meant_is_told() {
        for (template, expected) in [
            ("{{.Image}}", "\"Image\"; did you mean .spec.task.container.image? there are .id, "),
            ("{{.Spec.Nmae}}", "\"Nmae\"; did you mean .spec.name? there are .spec.labels, .spec.mode, "),
            (
                "{{.Spec.UpdateConfig.Delay}}",
                "\"Delay\"; did you mean .spec.update.delay_ns? there are .spec.update.",
            ),
            ("{{.Labels}}", "\"Labels\"; did you mean .spec.labels? there are .id, "),
            ("{{.ID.Name}}", "\"Name\"; did you mean .spec.name? .id has no fields"),
            ("{{.Spec.Xyzzy}}", "\"Xyzzy\"; there are .spec.labels, "),
        ] {
            let told = rendered(template);
            assert!(told.starts_with(&format!("format: unknown field {expected}")), "{template}: {told}");
        }
    }
}
