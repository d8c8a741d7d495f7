//! `coracle service create`

use coracle_model::constraint::Constraint;
use coracle_proto::v1;

use super::flags::{TaskFlags, WaitFlags};
use super::merge;
use super::name_of;
use crate::context::{Context, idempotency_key};
use crate::opt::FlagError;
use crate::opt::count;
use crate::opt::env::{self, Variable};
use crate::opt::label::{self, Label};
use crate::opt::mode::{self, Mode};
use crate::opt::mount::MountFlag;
use crate::{error, output, progress};

/// Flags of `service create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the service; without one the managers make one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Tasks wanted (default 1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::replicas)]
    replicas: Option<u64>,
    /// replicated (so many tasks) or global (one on each node)
    #[arg(long, value_name = "MODE", default_value = "replicated", value_parser = mode::mode)]
    mode: Mode,
    /// Set a variable, or pass on one of this environment (may be repeated)
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env::parse)]
    env: Vec<Variable>,
    /// Mount a path of the node or a tmpfs: type=bind,source=PATH,target=PATH,readonly or
    /// type=tmpfs,target=PATH,tmpfs-size=BYTES,tmpfs-mode=OCTAL (may be repeated)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<MountFlag>,
    /// Label of the service (may be repeated)
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label::parser("label"))]
    label: Vec<Label>,
    /// Label of its containers (may be repeated)
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label::parser("container-label"))]
    container_label: Vec<Label>,
    /// Where tasks may run, such as node.role==worker or node.labels.zone!=a (may be repeated)
    #[arg(long, value_name = "CONSTRAINT")]
    constraint: Vec<Constraint>,
    #[command(flatten)]
    task: TaskFlags,
    #[command(flatten)]
    wait: WaitFlags,
    // One argument for both: everything after the image is the container's, also what looks like a flag.
    /// The image, then the arguments of the container (default the image's)
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    image_and_args: Vec<String>,
}

/// Creates the service, prints its id, and waits until it has converged.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let spec = specification(args, &env::resolve_all(&args.env))?;
    let request = v1::CreateServiceRequest { spec: Some(spec), idempotency_key: idempotency_key() };
    let answer = context.call(request, async |request| context.services().create(request).await).await?;
    let service = answer.service.unwrap_or_default();
    output::line(&service.id)?;
    answer.warnings.iter().for_each(|warning| error::say(&format!("warning: {warning}")));
    progress::converge(context, &service.id, &name_of(&service), &args.wait).await
}

fn specification(args: &Args, env: &[String]) -> Result<v1::ServiceSpec, FlagError> {
    let mode = match (args.mode, args.replicas) {
        (Mode::Replicated, replicas) => {
            v1::service_spec::Mode::Replicated(v1::Replicated { replicas: replicas.unwrap_or(1) })
        }
        (Mode::Global, None) => v1::service_spec::Mode::Global(v1::Global {}),
        (Mode::Global, Some(replicas)) => {
            let problem = "a global service has one task on each node; leave this out";
            return Err(FlagError::new("replicas", replicas, problem));
        }
    };
    let (image, arguments) =
        args.image_and_args.split_first().map_or(("", &[][..]), |(image, rest)| (image, rest));
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage { reference: image.to_owned(), digest: String::new() }),
        args: arguments.to_vec(),
        env: merge::env::merge(&[], env, &[]),
        labels: merge::labels::merge(Default::default(), &args.container_label, &[]),
        mounts: merge::mount::merge(Vec::new(), &args.mount, &[]),
        ..Default::default()
    };
    let placement = v1::Placement {
        constraints: merge::placement::merge(&[], &args.constraint, &[]),
        ..Default::default()
    };
    let mut task =
        v1::TaskSpec { container: Some(container), placement: Some(placement), ..Default::default() };
    args.task.apply(&mut task);
    Ok(v1::ServiceSpec {
        name: args.name.clone().unwrap_or_default(),
        labels: merge::labels::merge(Default::default(), &args.label, &[]),
        mode: Some(mode),
        task: Some(task),
        ..Default::default()
    })
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

    fn spec(line: &str) -> Result<v1::ServiceSpec, String> {
        let words = std::iter::once("create").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        specification(&line.args, &env::resolve_all(&line.args.env)).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_after_the_image_is_the_containers() {
        let container =
            spec("--name web busybox --name x -c --replicas").unwrap().task.unwrap().container.unwrap();
        assert_eq!(container.args, ["--name", "x", "-c", "--replicas"]);
        assert_eq!(container.image.unwrap().reference, "busybox");
    }

    #[test]
    fn flags_reach_the_specification() {
        let spec = spec(
            "--name web --replicas 3 -e A=1 -e A=2 --label a=b --container-label c --limit-cpu 0.5 --limit-memory 64m \
             --limit-pids 9 --reserve-cpu 0.1 --reserve-memory 32m --constraint node.role==worker \
             --replicas-max-per-node 2 --restart-condition on-failure --restart-delay 1m --restart-max-attempts 4 \
             --restart-window 2h --stop-grace-period 0s --stop-signal SIGINT --network host --read-only -u 1:2 -w /w \
             --hostname h --mount type=tmpfs,target=/t web:1",
        )
        .unwrap();
        assert_eq!(spec.mode, Some(v1::service_spec::Mode::Replicated(v1::Replicated { replicas: 3 })));
        let task = spec.task.unwrap();
        let container = task.container.clone().unwrap();
        assert_eq!(container.env, ["A=2"]);
        assert_eq!((container.user.as_str(), container.workdir.as_str()), ("1:2", "/w"));
        assert!(container.read_only && container.stop_grace == Some(0) && container.mounts.len() == 1);
        assert_eq!(
            task.limits,
            Some(v1::Limits {
                nano_cpus: 500_000_000,
                memory_bytes: 64 << 20,
                pids: 9,
                ..Default::default()
            })
        );
        assert_eq!(task.reservations, Some(v1::Resources { nano_cpus: 100_000_000, memory_bytes: 32 << 20 }));
        let restart = task.restart.unwrap();
        assert_eq!((restart.delay, restart.max_attempts), (Some(60_000_000_000), 4));
        assert_eq!(restart.condition, i32::from(v1::RestartCondition::OnFailure));
        assert_eq!(task.network, i32::from(v1::NetworkMode::Host));
        let placement = task.placement.unwrap();
        assert_eq!(
            (placement.constraints, placement.max_replicas_per_node),
            (vec!["node.role==worker".to_owned()], 2)
        );
    }

    #[test]
    fn what_is_left_out_is_the_managers_to_decide() {
        let spec = spec("web").unwrap();
        assert_eq!(spec.name, "");
        let task = spec.task.unwrap();
        assert_eq!(task.restart.unwrap().delay, None);
        assert_eq!(task.container.unwrap().stop_grace, None);
    }

    #[test]
    fn a_global_service_has_no_replicas() {
        let error = spec("--mode global --replicas 2 web").unwrap_err();
        assert!(error.starts_with("replicas: invalid value \"2\": a global service"), "{error}");
    }

    #[test]
    fn negative_replicas_are_refused_in_words() {
        let error = spec("--replicas -1 web").unwrap_err();
        assert!(
            error.contains("replicas: invalid value \"-1\": use a whole number from 0 to 100000"),
            "{error}"
        );
    }
}
