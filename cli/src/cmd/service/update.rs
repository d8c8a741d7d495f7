//! `coracle service update`: reads the service, merges the flags, writes it back with the version that was read.

use coracle_proto::status::Reason;
use coracle_proto::v1;
use coracle_proto::v1::service_spec::Mode;

use super::flags::{SpecFlags, WaitFlags};
use super::lists::UpdateLists;
use super::write::{ATTEMPTS, read_again, write};
use super::{get, name_of, rollback};
use crate::context::Context;
use crate::error::{self, Failure};
use crate::exit_code::ExitCode;
use crate::opt::{FlagError, count, words};
use crate::output;
use crate::progress::{self, Goal};

/// Flags of `service update`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Image; its name is resolved again
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Arguments of the container as one text, split as a shell does
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    args: Option<String>,
    /// Tasks wanted, or completions of a job
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = count::replicas)]
    replicas: Option<u64>,
    /// Replace all tasks, also when nothing changes; a job runs again
    #[arg(long)]
    force: bool,
    /// Put the specification before the last change in force again
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    lists: UpdateLists,
    #[command(flatten)]
    spec: SpecFlags,
    #[command(flatten)]
    wait: WaitFlags,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "SERVICE")]
    service: String,
}

/// Changes the service, prints its name, and waits until it has converged.
///
/// # Errors
/// What went wrong.
pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    if args.rollback {
        // Asked of any specification, flags that change one show.
        let changes = merged(probe(), &args)? != merged(probe(), &Args::default())?;
        if changes {
            let problem =
                "rollback: it cannot be combined with flags that change the specification; give it alone";
            return Err(Failure::new(ExitCode::Usage, problem).into());
        }
        return rollback::roll_back(context, &args.service, &args.wait).await;
    }
    let mut service = get(context, &args.service).await?.service.unwrap_or_default();
    let (id, name) = (service.id.clone(), name_of(&service));
    let present = service.spec.clone().unwrap_or_default();
    let idle = args.lists.idle_removals(&present);
    let spec = merged(present, &args)?;
    let mut attempts = 1..ATTEMPTS;
    let written = loop {
        match write(context, &id, &name, service.version, spec.clone()).await {
            Err(error) if error.reason == Reason::Stale && attempts.next().is_some() => {
                service = read_again(context, &service, error).await?;
            }
            outcome => break outcome?,
        }
    };
    output::line(&args.service)?;
    idle.iter()
        .for_each(|removal| error::say(&format!("warning: {removal}: there is none, nothing was removed")));
    written.warnings.iter().for_each(|warning| error::say(&format!("warning: {warning}")));
    let goal = Goal::updated(&service, written.service.as_ref());
    progress::converge(context, &id, &name, &args.wait, goal).await
}

/// A specification that every flag can change.
fn probe() -> v1::ServiceSpec {
    let schedule = v1::JobSchedule { cron: "probe".to_owned(), ..Default::default() };
    v1::ServiceSpec {
        mode: Some(Mode::ReplicatedJob(v1::ReplicatedJob { completions: u64::MAX, concurrent: u64::MAX })),
        job: Some(v1::JobConfig { schedule: Some(schedule), ..Default::default() }),
        ..Default::default()
    }
}

/// The specification with what the flags change.
///
/// # Errors
/// When a value does not fit.
pub(super) fn merged(spec: v1::ServiceSpec, args: &Args) -> Result<v1::ServiceSpec, FlagError> {
    let mut spec = spec;
    if let Some(replicas) = args.replicas {
        spec.mode = Some(with_replicas(spec.mode.as_ref(), replicas)?);
    }
    let task = spec.task.get_or_insert_default();
    task.force_update += u64::from(args.force);
    let container = task.container.get_or_insert_default();
    if let Some(reference) = &args.image {
        container.image = Some(v1::PinnedImage { reference: reference.clone(), digest: String::new() });
    }
    if let Some(text) = &args.args {
        container.args = words::split("args", text)?;
    }
    args.lists.apply(&mut spec);
    args.spec.apply(&mut spec)?;
    Ok(spec)
}

/// The mode with another number of tasks.
///
/// # Errors
/// When the service is not replicated.
pub(crate) fn with_replicas(mode: Option<&Mode>, replicas: u64) -> Result<Mode, FlagError> {
    match mode {
        Some(Mode::Replicated(_)) => Ok(Mode::Replicated(v1::Replicated { replicas })),
        Some(Mode::ReplicatedJob(job)) => {
            Ok(Mode::ReplicatedJob(v1::ReplicatedJob { completions: replicas, concurrent: job.concurrent }))
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
            mode: Some(Mode::Replicated(v1::Replicated { replicas: 2 })),
            task: Some(v1::TaskSpec { container: Some(container), force_update: 1, ..Default::default() }),
            ..Default::default()
        }
    }

    fn updated(line: &[&str]) -> Result<v1::ServiceSpec, FlagError> {
        let words = ["update"].iter().chain(line).chain(&["web"]);
        let line = Line::try_parse_from(words).unwrap();
        merged(present(), &line.args)
    }

    fn container(spec: &v1::ServiceSpec) -> &v1::ContainerSpec {
        spec.task.as_ref().unwrap().container.as_ref().unwrap()
    }

    #[test]
    fn what_is_not_given_stays() {
        let spec = updated(&["--env-add", "B=2"]).unwrap();
        let mut expected = present();
        let task = expected.task.as_mut().unwrap();
        let container = task.container.as_mut().unwrap();
        container.env.push("B=2".into());
        container.dns = Some(Default::default());
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
    fn rollouts_change_value_by_value() {
        let spec = updated(&["--update-order", "start-first", "--update-max-failure-ratio", "0.25"]).unwrap();
        let expected = v1::UpdateConfig {
            order: v1::UpdateOrder::StartFirst.into(),
            max_failure_ratio: 250_000,
            ..(&coracle_model::rollout::UpdateConfig::default()).into()
        };
        assert_eq!((spec.update, spec.rollback), (Some(expected), None));
        let mut again = spec;
        let words = ["update", "--update-timeout", "0", "--rollback-parallelism", "0", "web"];
        let line = Line::try_parse_from(words).unwrap();
        again = merged(again, &line.args).unwrap();
        assert_eq!(again.update, Some(v1::UpdateConfig { timeout: Some(0), ..expected }));
        assert_eq!(again.rollback.unwrap().parallelism, 0);
    }

    #[test]
    fn a_rollback_knows_every_flag_that_changes_something() {
        let changes = |words: &[&str]| {
            let words = ["update"].iter().chain(words).chain(&["web"]);
            let line = Line::try_parse_from(words).unwrap();
            merged(probe(), &line.args).unwrap() != merged(probe(), &Args::default()).unwrap()
        };
        assert!(!changes(&["--rollback", "--detach", "--quiet"]));
        for words in [
            &["--image", "a"][..],
            &["--force"],
            &["--replicas", "1"],
            &["--max-concurrent", "0"],
            &["--timezone", "UTC"],
            &["--update-parallelism", "1"],
            &["--env-add", "A=1"],
            &["--secret-add", "key"],
            &["--cap-drop", "ALL"],
            &["--no-healthcheck"],
        ] {
            assert!(changes(words), "{words:?}");
        }
    }

    #[test]
    fn health_checks_are_switched_on_by_saying_how() {
        let health = |present: v1::HealthConfig, line: &[&str]| {
            let mut spec = present_with(present);
            let words = ["update"].iter().chain(line).chain(&["web"]);
            spec = merged(spec, &Line::try_parse_from(words).unwrap().args).unwrap();
            container(&spec).health.clone().unwrap()
        };
        use v1::health_config::Test;
        let off = v1::HealthConfig { test: Some(Test::Disabled(true)), ..Default::default() };
        assert_eq!(health(off.clone(), &["--health-interval", "5s"]).test, None);
        assert_eq!(health(off.clone(), &["--health-cmd", "true"]).test, Some(Test::Shell("true".into())));
        let on = v1::HealthConfig { interval: Some(7), retries: Some(2), ..Default::default() };
        assert_eq!(health(on.clone(), &["--no-healthcheck"]), off);
        assert_eq!(
            health(on, &["--health-interval", "0", "--health-retries", "0"]),
            v1::HealthConfig::default()
        );
        let conflict = ["update", "--no-healthcheck", "--health-retries", "1", "web"];
        assert!(Line::try_parse_from(conflict).is_err());
    }

    fn present_with(health: v1::HealthConfig) -> v1::ServiceSpec {
        let mut spec = present();
        spec.task.as_mut().unwrap().container.as_mut().unwrap().health = Some(health);
        spec
    }

    #[test]
    fn lists_are_added_to_and_removed_from() {
        let spec = updated(&[
            "--host-add",
            "db:10.0.0.5",
            "--ulimit-add",
            "nofile=1:2",
            "--sysctl-add",
            "net.core.somaxconn=9",
            "--group-add",
            "7",
            "--dns-add",
            "10.0.0.1",
            "--generic-resource-add",
            "GPU=2",
            "--device-add",
            "/dev/fuse",
            "--secret-add",
            "key",
            "--config-add",
            "conf@2",
            "--placement-pref-add",
            "spread=node.labels.zone",
            "--anti-affinity-add",
            "noisy",
            "--publish-add",
            "mode=host,target=80",
        ])
        .unwrap();
        let words = [
            "update",
            "--host-rm",
            "db",
            "--ulimit-rm",
            "nofile",
            "--sysctl-rm",
            "net.core.somaxconn",
            "--group-rm",
            "7",
            "--dns-rm",
            "10.0.0.1",
            "--generic-resource-rm",
            "GPU",
            "--device-rm",
            "/dev/fuse",
            "--secret-rm",
            "key",
            "--config-rm",
            "conf",
            "--placement-pref-rm",
            "spread=node.labels.zone",
            "--anti-affinity-rm",
            "noisy",
            "--publish-rm",
            "80",
            "web",
        ];
        let without = merged(spec.clone(), &Line::try_parse_from(words).unwrap().args).unwrap();
        let nothing = updated(&[]).unwrap();
        assert_eq!(without, nothing);
        assert_ne!(spec, nothing);
        let removals = Line::try_parse_from(words).unwrap().args.lists;
        assert_eq!(removals.idle_removals(&spec), Vec::<String>::new());
        let idle = removals.idle_removals(&nothing);
        assert_eq!(idle.len(), 12, "{idle:?}");
        assert_eq!(idle.first().map(String::as_str), Some("--placement-pref-rm spread=node.labels.zone"));
        assert!(idle.contains(&"--publish-rm 80/tcp".to_owned()), "{idle:?}");
        assert_eq!(container(&spec).hosts, ["10.0.0.5 db"]);
        assert_eq!(container(&spec).files.len(), 2);
    }

    #[test]
    fn only_replicated_services_have_replicas() {
        let spec = updated(&["--replicas", "0"]).unwrap();
        assert_eq!(spec.mode, Some(Mode::Replicated(v1::Replicated { replicas: 0 })));
        let job = Mode::ReplicatedJob(v1::ReplicatedJob { completions: 1, concurrent: 3 });
        let more = Mode::ReplicatedJob(v1::ReplicatedJob { completions: 9, concurrent: 3 });
        assert_eq!(with_replicas(Some(&job), 9), Ok(more));
        let global = Mode::Global(v1::Global {});
        assert!(with_replicas(Some(&global), 1).is_err());
    }
}
