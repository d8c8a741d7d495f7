//! `coracle service create`

use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode as SpecMode;

use super::flags::{SpecFlags, WaitFlags};
use super::lists::CreateLists;
use super::name_of;
use crate::context::{Context, idempotency_key};
use crate::opt::FlagError;
use crate::opt::count;
use crate::opt::mode::{self, Mode};
use crate::progress::{self, Goal};
use crate::{error, output};

/// Flags of `service create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the service; without one the managers make one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Tasks wanted, or completions of a job (default 1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::replicas)]
    replicas: Option<u64>,
    /// replicated (so many tasks), global (one on each node), replicated-job or global-job (the same with tasks that end)
    #[arg(long, value_name = "MODE", default_value = "replicated", value_parser = mode::mode)]
    mode: Mode,
    #[command(flatten)]
    lists: CreateLists,
    #[command(flatten)]
    spec: SpecFlags,
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
    let spec = specification(args)?;
    let request = v1::CreateServiceRequest { spec: Some(spec), idempotency_key: idempotency_key() };
    let answer = context.call(request, async |request| context.services().create(request).await).await?;
    let service = answer.service.unwrap_or_default();
    output::line(&service.id)?;
    answer.warnings.iter().for_each(|warning| error::say(&format!("warning: {warning}")));
    let goal = Goal::created(&service);
    progress::converge(context, &service.id, &name_of(&service), &args.wait, goal).await
}

/// The specification that the flags ask for.
///
/// # Errors
/// When values do not go together.
pub(super) fn specification(args: &Args) -> Result<v1::ServiceSpec, FlagError> {
    let (image, arguments) =
        args.image_and_args.split_first().map_or(("", &[][..]), |(image, rest)| (image, rest));
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage { reference: image.to_owned(), digest: String::new() }),
        args: arguments.to_vec(),
        ..Default::default()
    };
    let mut spec = v1::ServiceSpec {
        name: args.name.clone().unwrap_or_default(),
        mode: Some(mode_of(args)?),
        task: Some(v1::TaskSpec { container: Some(container), ..Default::default() }),
        ..Default::default()
    };
    args.lists.additions()?.apply(&mut spec);
    args.spec.apply(&mut spec)?;
    Ok(spec)
}

fn mode_of(args: &Args) -> Result<SpecMode, FlagError> {
    let replicas = args.replicas.unwrap_or(1);
    match (args.mode, args.replicas) {
        (Mode::Replicated, _) => Ok(SpecMode::Replicated(v1::Replicated { replicas })),
        // As many at a time as there are to do, unless --max-concurrent says otherwise.
        (Mode::ReplicatedJob, _) => {
            Ok(SpecMode::ReplicatedJob(v1::ReplicatedJob { completions: replicas, concurrent: 0 }))
        }
        (Mode::Global, None) => Ok(SpecMode::Global(v1::Global {})),
        (Mode::GlobalJob, None) => Ok(SpecMode::GlobalJob(v1::GlobalJob {})),
        (Mode::Global | Mode::GlobalJob, Some(replicas)) => {
            let problem = "a global service has one task on each node; leave this out";
            Err(FlagError::new("replicas", replicas, problem))
        }
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

    fn spec(line: &str) -> Result<v1::ServiceSpec, String> {
        let words = std::iter::once("create").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        specification(&line.args).map_err(|error| error.to_string())
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
                pids: Some(9),
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
    fn a_job_has_completions_and_a_schedule() {
        let job = spec("--mode replicated-job --replicas 6 --max-concurrent 2 --schedule @daily --timezone Europe/Berlin --concurrency replace --history 1 --time-limit 5m --ttl 1h web").unwrap();
        assert_eq!(
            job.mode,
            Some(SpecMode::ReplicatedJob(v1::ReplicatedJob { completions: 6, concurrent: 2 }))
        );
        assert_eq!(job.update, None, "jobs are not updated piece by piece");
        let config = job.job.unwrap();
        let schedule = config.schedule.unwrap();
        assert_eq!((schedule.cron.as_str(), schedule.history), ("@daily", Some(1)));
        assert_eq!((config.time_limit, config.time_to_live), (300_000_000_000, Some(3_600_000_000_000)));
        let error = spec("--max-concurrent 2 web").unwrap_err();
        assert!(error.contains("only a job with --mode replicated-job"), "{error}");
        let error = spec("--mode global-job --timezone UTC web").unwrap_err();
        assert!(error.contains("give --schedule too"), "{error}");
    }

    #[test]
    fn what_means_nothing_here_is_refused_with_the_reason() {
        for (line, part) in [
            ("--with-registry-auth web", "coracle image load"),
            ("--no-resolve-image web", "coracle image load"),
            ("--endpoint-mode dnsrr web", "overlay networks are not there yet"),
            ("--isolation process web", "only containers of Linux"),
        ] {
            let error = spec(line).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
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
