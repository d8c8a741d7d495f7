//! What one task is given of the secrets and configs on this node: files and variables, their placeholders filled in.
//!
//! It is in memory only, from here to the file system in memory or the environment of the program.

use std::sync::Arc;

use coracle_model::secret::{FileKind, FileReference, FileTarget, variable_entry};
use coracle_model::service::ContainerSpec;
use coracle_model::template::{Placeholder, Values, file};
use zeroize::Zeroizing;

use super::{Data, LaunchFile, Sent, Shelf};

/// `NAME=VALUE` of a secret or a config that a program has in its environment.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchVariable {
    name: String,
    entry: Zeroizing<String>,
}

impl LaunchVariable {
    /// The entry: every caller of this is a place to look at in a review.
    pub(crate) fn reveal(&self) -> &str {
        &self.entry
    }
}

impl std::fmt::Debug for LaunchVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaunchVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a task is given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) files: Vec<LaunchFile>,
    pub(crate) variables: Vec<LaunchVariable>,
}

impl Shelf {
    /// What a container, whose own placeholders are filled in, is given.
    ///
    /// # Errors
    /// If something is not here, or cannot be what it is to be: for the operator, without anything of what it contains.
    pub(crate) fn given(&self, container: &ContainerSpec, values: &Values) -> Result<Given, String> {
        let mut given = Given::default();
        for reference in &container.files {
            let data = self.content(reference, container, values)?;
            match &reference.target {
                FileTarget::File { uid, gid, mode, .. } => {
                    let target = reference.path().unwrap_or_default();
                    given.files.push(LaunchFile { target, uid: *uid, gid: *gid, mode: *mode, data });
                }
                FileTarget::Environment { variable } => {
                    let entry = variable_entry(variable, &data).map_err(|why| told(reference, &why))?;
                    let (name, entry) = (variable.clone(), Zeroizing::new(entry));
                    given.variables.push(LaunchVariable { name, entry });
                }
            }
        }
        Ok(given)
    }

    fn content(
        &self,
        reference: &FileReference,
        container: &ContainerSpec,
        values: &Values,
    ) -> Result<Data, String> {
        let Sent { data, template } = self.sent(reference)?;
        if !template {
            return Ok(data);
        }
        let refuse = |why: String| told(reference, &why);
        let template = file::of_content(reference.kind, &data).map_err(|error| refuse(error.to_string()))?;
        if let Some(missing) = file::missing(&template, container) {
            return Err(refuse(missing));
        }
        let others = Others::of(self, container, template.placeholders())?;
        let value = |placeholder| others.get(placeholder, container, values).ok_or(());
        let pieces =
            template.pieces(value).map_err(|()| refuse("a placeholder stands for nothing".to_owned()))?;
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length >= reference.kind.limit() {
            return Err(refuse(format!(
                "{length} bytes are too many when its placeholders are filled in; a {} is smaller than {} bytes",
                reference.kind,
                reference.kind.limit()
            )));
        }
        // Of the right size from the beginning, so that no part of it is left where it lay before it grew.
        let mut content = Zeroizing::new(Vec::with_capacity(length));
        pieces.into_iter().for_each(|piece| content.extend_from_slice(piece));
        Ok(Arc::new(content))
    }
}

fn told(reference: &FileReference, why: &str) -> String {
    format!("{} {:?}: {why}", reference.kind, reference.name.as_str())
}

/// The secrets and configs that a content asks for, as managers sent them: placeholders of theirs are not filled in, as in Swarm.
struct Others(Vec<(Placeholder, Data)>);

impl Others {
    fn of<'a>(
        shelf: &Shelf,
        container: &ContainerSpec,
        placeholders: impl Iterator<Item = &'a Placeholder>,
    ) -> Result<Self, String> {
        let mut others = Vec::new();
        for placeholder in placeholders {
            let (kind, name) = match placeholder {
                Placeholder::Secret(name) => (FileKind::Secret, name),
                Placeholder::Config(name) => (FileKind::Config, name),
                _ => continue,
            };
            if let Some(reference) = file::called(&container.files, kind, name) {
                others.push((placeholder.clone(), shelf.sent(reference)?.data));
            }
        }
        Ok(Self(others))
    }

    fn get<'a>(
        &'a self,
        placeholder: &'a Placeholder,
        container: &'a ContainerSpec,
        values: &'a Values,
    ) -> Option<&'a [u8]> {
        match placeholder {
            Placeholder::Secret(_) | Placeholder::Config(_) => {
                self.0.iter().find(|(known, _)| known == placeholder).map(|(_, data)| data.as_slice())
            }
            Placeholder::Variable(name) => file::variable(container, name).map(str::as_bytes),
            known => values.get(known).map(str::as_bytes),
        }
    }
}
