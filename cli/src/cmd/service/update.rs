//! `coracle service update`: reads the service, merges the flags, writes it back with the version that was read.

use coracle_model::constraint::Constraint;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

use super::flags::{TaskFlags, WaitFlags};
use super::{get, merge, name_of};
use crate::context::{Context, idempotency_key};
use crate::opt::env::{self, Variable};
use crate::opt::label::{self, Label};
use crate::opt::mount::MountFlag;
use crate::opt::{FlagError, count, words};
use crate::{error, output, progress};

/// Flags of `service update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image; its name is resolved again
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Arguments of the container as one text, split as a shell does
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    args: Option<String>,
    /// Tasks wanted
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::replicas)]
    replicas: Option<u64>,
    /// Replace all tasks, also when nothing changes
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    task: TaskFlags,
    #[command(flatten)]
    wait: WaitFlags,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "SERVICE")]
    service: String,
}

#[derive(Debug, Default, clap::Args)]
struct Lists {
    /// Add or replace a variable (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env_add: Vec<Variable>,
    /// Remove a variable (may be repeated)
    #[arg(long, value_name = "KEY")]
    env_rm: Vec<String>,
    /// Add or replace a mount (may be repeated)
    #[arg(long, value_name = "MOUNT")]
    mount_add: Vec<MountFlag>,
    /// Remove the mount at a target (may be repeated)
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Add or replace a label of the service (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("label-add"))]
    label_add: Vec<Label>,
    /// Remove a label of the service (may be repeated)
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or replace a label of the containers (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("container-label-add"))]
    container_label_add: Vec<Label>,
    /// Remove a label of the containers (may be repeated)
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add a constraint (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<Constraint>,
    /// Remove a constraint (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<Constraint>,
}

/// Changes the service, prints its name, and waits until it has converged.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let service = get(context, &args.service).await?.service.unwrap_or_default();
    let (id, name) = (service.id.clone(), name_of(&service));
    let spec = merged(service.spec.unwrap_or_default(), &args, &env::resolve_all(&args.lists.env_add))?;
    let warnings = write(context, &id, &name, service.version, spec).await?;
    output::line(&args.service)?;
    warnings.iter().for_each(|warning| error::say(&format!("warning: {warning}")));
    progress::converge(context, &id, &name, &args.wait).await
}

/// Writes a specification over the version that was read.
///
/// # Errors
/// What the managers answer; a service that was changed meanwhile is told as that.
pub(crate) async fn write(
    context: &Context,
    id: &str,
    name: &str,
    version: u64,
    spec: v1::ServiceSpec,
) -> Result<Vec<String>, ApiError> {
    let request = v1::UpdateServiceRequest {
        service: id.to_owned(),
        version,
        spec: Some(spec),
        idempotency_key: idempotency_key(),
    };
    let outcome = context.call(request, async |request| context.services().update(request).await).await;
    outcome.map(|answer| answer.warnings).map_err(|error| match error.reason {
        Reason::Stale => ApiError::new(Reason::Stale, format!("service {name:?} was changed meanwhile"))
            .with_hint("run the command again: it reads the service anew"),
        _ => error,
    })
}

fn merged(spec: v1::ServiceSpec, args: &Args, env_add: &[String]) -> Result<v1::ServiceSpec, FlagError> {
    let mut spec = spec;
    if let Some(replicas) = args.replicas {
        spec.mode = Some(with_replicas(spec.mode.as_ref(), replicas)?);
    }
    let lists = &args.lists;
    spec.labels = merge::labels::merge(spec.labels, &lists.label_add, &lists.label_rm);
    let mut task = spec.task.unwrap_or_default();
    let placement = task.placement.get_or_insert_default();
    placement.constraints =
        merge::placement::merge(&placement.constraints, &lists.constraint_add, &lists.constraint_rm);
    let mut container = task.container.unwrap_or_default();
    container.env = merge::env::merge(&container.env, env_add, &lists.env_rm);
    container.mounts = merge::mount::merge(container.mounts, &lists.mount_add, &lists.mount_rm);
    container.labels =
        merge::labels::merge(container.labels, &lists.container_label_add, &lists.container_label_rm);
    if let Some(reference) = &args.image {
        container.image = Some(v1::PinnedImage { reference: reference.clone(), digest: String::new() });
    }
    if let Some(text) = &args.args {
        container.args = words::split("args", text)?;
    }
    task.container = Some(container);
    args.task.apply(&mut task);
    task.force_update += u64::from(args.force);
    spec.task = Some(task);
    Ok(spec)
}

/// The mode with another number of tasks.
///
/// # Errors
/// When the service is not replicated.
pub(crate) fn with_replicas(
    mode: Option<&v1::service_spec::Mode>,
    replicas: u64,
) -> Result<v1::service_spec::Mode, FlagError> {
    match mode {
        Some(v1::service_spec::Mode::Replicated(_)) => {
            Ok(v1::service_spec::Mode::Replicated(v1::Replicated { replicas }))
        }
        _ => Err(FlagError::new("replicas", replicas, "only a replicated service has a number of tasks")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn present() -> v1::ServiceSpec {
        let image = v1::PinnedImage { reference: "web:1".into(), digest: "sha256:00".into() };
        let container = v1::ContainerSpec {
            image: Some(image),
            args: vec!["run".into()],
            env: vec!["A=1".into()],
            user: "7".into(),
            stop_grace: Some(5),
            ..Default::default()
        };
        v1::ServiceSpec {
            name: "web".into(),
            mode: Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 2 })),
            task: Some(v1::TaskSpec { container: Some(container), force_update: 1, ..Default::default() }),
            ..Default::default()
        }
    }

    fn updated(line: &[&str]) -> Result<v1::ServiceSpec, FlagError> {
        let words = ["update"].iter().chain(line).chain(&["web"]);
        let line = Line::try_parse_from(words).unwrap();
        merged(present(), &line.args, &env::resolve_all(&line.args.lists.env_add))
    }

    fn container(spec: &v1::ServiceSpec) -> &v1::ContainerSpec {
        spec.task.as_ref().unwrap().container.as_ref().unwrap()
    }

    #[test]
    fn what_is_not_given_stays() {
        let spec = updated(&["--env-add", "B=2"]).unwrap();
        let mut expected = present();
        let task = expected.task.as_mut().unwrap();
        task.container.as_mut().unwrap().env.push("B=2".into());
        // Parts with defaults are written out; they say the same.
        task.placement = Some(Default::default());
        task.restart = Some(Default::default());
        task.limits = Some(Default::default());
        task.reservations = Some(Default::default());
        assert_eq!(spec, expected);
    }

    #[test]
    fn another_image_is_resolved_again_and_the_same_digest_is_kept_otherwise() {
        let image = |line: &[&str]| container(&updated(line).unwrap()).image.clone().unwrap();
        assert_eq!(image(&["--user", "8"]).digest, "sha256:00");
        assert_eq!(
            image(&["--image", "web:2"]),
            v1::PinnedImage { reference: "web:2".into(), digest: String::new() }
        );
    }

    #[test]
    fn arguments_are_split_and_force_counts() {
        let spec = updated(&["--args", "sh -c 'a b'", "--force", "--read-only=true"]).unwrap();
        assert_eq!(container(&spec).args, ["sh", "-c", "a b"]);
        assert!(container(&spec).read_only);
        assert_eq!(spec.task.unwrap().force_update, 2);
        assert!(updated(&["--args", "'"]).is_err());
    }

    #[test]
    fn only_replicated_services_have_replicas() {
        let spec = updated(&["--replicas", "0"]).unwrap();
        assert_eq!(spec.mode, Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 0 })));
        let global = v1::service_spec::Mode::Global(v1::Global {});
        assert!(with_replicas(Some(&global), 1).is_err());
    }
}
