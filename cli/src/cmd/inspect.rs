//! What all `inspect` commands share: a JSON array, or a line for each object by a template.

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::output::format::Format;
use crate::output::template::docker::Names;
use crate::output::{write, write_json};

/// The flags of every `inspect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// json, or a template such as '{{.ID}}' or '{{index .Labels "KEY"}}'; most of Docker's names of fields do, too
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
}

/// The objects that were found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Docker's names for their fields.
    names: Names,
    objects: std::cell::RefCell<Vec<Value>>,
}

impl Found {
    /// None yet, of a kind of which Docker has these names.
    pub(crate) fn with(names: Names) -> Self {
        Self { names, ..Self::default() }
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub(crate) fn push(&self, object: &impl Serialize) -> anyhow::Result<()> {
        self.objects.borrow_mut().push(serde_json::to_value(object)?);
        Ok(())
    }

    /// Writes what was found.
    ///
    /// # Errors
    /// When a template does not fit, or the output cannot be written.
    pub(crate) fn print(&self, args: &InspectArgs) -> anyhow::Result<()> {
        let objects = self.objects.borrow();
        if args.quiet {
            let ids = objects.iter().filter_map(|object| object.get("id")?.as_str());
            return Ok(write(&ids.map(|id| format!("{id}\n")).collect::<String>())?);
        }
        let (Some(Format::Lines(template)) | Some(Format::TableOf(template))) = &args.format else {
            return write_json(&*objects);
        };
        let mut text = String::new();
        for object in objects.iter() {
            text.push_str(&template.render_with(object, self.names)?);
            text.push('\n');
        }
        Ok(write(&text)?)
    }
}
