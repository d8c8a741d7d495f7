//! Docker's flags that mean nothing here: refused with the reason instead of being ignored or unknown.

use crate::opt::FlagError;

/// Flags that are refused.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RefusedFlags {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    with_registry_auth: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_resolve_image: Option<String>,
    #[arg(long, hide = true)]
    endpoint_mode: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    credential_spec: Option<String>,
}

impl RefusedFlags {
    /// Refuses what was given.
    ///
    /// # Errors
    /// The first flag that was given.
    pub(crate) fn check(&self) -> Result<(), FlagError> {
        let images =
            "images come from the cluster itself, not from a registry: load them with `coracle image load`";
        let windows = "only containers of Linux are run; leave this out";
        let flags = [
            ("with-registry-auth", &self.with_registry_auth, images),
            ("no-resolve-image", &self.no_resolve_image, images),
            ("endpoint-mode", &self.endpoint_mode, "overlay networks are not there yet; leave this out"),
            ("isolation", &self.isolation, windows),
            ("credential-spec", &self.credential_spec, windows),
        ];
        for (field, value, problem) in flags {
            if let Some(value) = value {
                return Err(FlagError::new(field, value, problem));
            }
        }
        Ok(())
    }
}
