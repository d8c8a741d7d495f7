//! What a service's secrets and configs stand for: names become objects, and references that are not pinned the latest version.

use coracle_manager_core::state::State;
use coracle_model::secret::{FileReference, FileTarget, variable_entry};
use coracle_model::service::{ContainerSpec, ServiceSpec};
use coracle_model::{template, validate};
use coracle_proto::status::{ApiError, Reason};

/// Resolves the references of a specification that an operator sends.
///
/// # Errors
/// If there is no object of a name, or not the version that is asked for.
pub(super) fn resolve(view: &State, spec: &mut ServiceSpec) -> Result<(), ApiError> {
    let container = &mut spec.task.container;
    container.files.iter_mut().try_for_each(|reference| one(view, reference))?;
    validate::files(container)?;
    container.files.iter().try_for_each(|reference| usable(view, reference, container))
}

/// Whether what is given now can be what it is to be. Newer versions are looked at by the nodes, which reject their tasks.
fn usable(view: &State, reference: &FileReference, container: &ContainerSpec) -> Result<(), ApiError> {
    let (kind, name) = (reference.kind, reference.name.as_str());
    let refuse =
        |why: String| ApiError::new(Reason::Invalid, format!("{kind}: invalid value {name:?}: {why}"));
    let Some(file) = view.file(reference.file) else { return Ok(()) };
    let Some(content) = file.contents.get(&reference.content) else { return Ok(()) };
    let data = content.data.reveal();
    if file.template {
        let template = template::file::of_content(kind, data).map_err(|error| refuse(error.to_string()))?;
        return template::file::missing(&template, container).map_or(Ok(()), |missing| Err(refuse(missing)));
    }
    match &reference.target {
        FileTarget::Environment { variable } => variable_entry(variable, data).map(drop).map_err(refuse),
        FileTarget::File { .. } => Ok(()),
    }
}

/// What a job keeps: unless something else about its tasks changes, a newer secret is no reason to do all of it again.
pub(super) fn keep_for_job(present: &ServiceSpec, spec: &mut ServiceSpec) {
    if !spec.mode.is_job() || spec.job.schedule.is_some() {
        return;
    }
    let mut kept = spec.task.clone();
    for reference in kept.container.files.iter_mut().filter(|reference| !reference.pinned) {
        let same = |before: &&FileReference| before.file == reference.file && !before.pinned;
        if let Some(before) = present.task.container.files.iter().find(same) {
            reference.content = before.content;
        }
    }
    if kept == present.task {
        spec.task = kept;
    }
}

fn one(view: &State, reference: &mut FileReference) -> Result<(), ApiError> {
    let (kind, name) = (reference.kind, reference.name.as_str());
    let Some(file) = view.file_by_name(kind, &reference.name) else {
        return Err(ApiError::new(Reason::NotFound, format!("{kind}: no {kind} {name:?}")).with_hint(
            format!("make it with `coracle {kind} create {name} FILE`; see `coracle {kind} ls`"),
        ));
    };
    reference.file = file.id;
    if !reference.pinned {
        reference.content = file.latest();
    } else if !file.contents.contains_key(&reference.content) {
        let there: Vec<_> = file.contents.keys().map(ToString::to_string).collect();
        let message = format!(
            "{kind}: invalid value \"{name}@{}\": it has no such version; there are {}",
            reference.content,
            there.join(", ")
        );
        return Err(ApiError::new(Reason::Invalid, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
