//! A service for people: what was said of it, one thing in a line; what was not said is left out.

use coracle_model::rebalance::RebalanceConfig;
use coracle_model::resources::{MemoryBytes, NanoCpus};
use coracle_model::restart::DEFAULT_DELAY;
use coracle_proto::convert::nanos;
use coracle_proto::v1;
use coracle_proto::v1::health_config::Test;

use crate::opt::device::DeviceFlag;
use crate::opt::duration::render;
use crate::opt::file::{self, FileFlag};
use crate::opt::mount::MountFlag;
use crate::opt::{port, ulimit};
use crate::output::lines::Lines;
use crate::output::{time, words};

/// The whole text.
pub(crate) fn describe(service: &v1::Service, counts: Option<v1::ServiceCounts>) -> String {
    let spec = service.spec.clone().unwrap_or_default();
    let task = spec.task.clone().unwrap_or_default();
    let container = task.container.clone().unwrap_or_default();
    let mut lines = Lines::default();
    lines.add("ID", &service.id);
    lines.add("Name", &spec.name);
    lines.sorted("Label", &spec.labels);
    lines.add("Created at", time::seconds(service.created_at));
    lines.add("Updated at", time::seconds(service.updated_at));
    lines.add("Mode", words::mode(spec.mode.as_ref()));
    lines.add("Tasks", tasks(&spec, counts.unwrap_or_default()));
    lines.add("Update", service.update.as_ref().map(update).unwrap_or_default());
    lines.add("Rebalance", service.rebalance.as_ref().map(rebalance).unwrap_or_default());
    lines.add("Job", service.job.as_ref().map(run).unwrap_or_default());
    let earlier = service.job.iter().flat_map(|job| job.earlier.iter().rev());
    lines.all("Run before", earlier.map(earlier_run));
    of_image(&mut lines, &container);
    lines.add("Network", words::network(task.network));
    of_rollouts(&mut lines, &spec);
    of_placement(&mut lines, &task, &spec);
    lines.add("Limits", limits(&task.limits.clone().unwrap_or_default()));
    lines.add("Reservations", reservations(&task));
    of_container(&mut lines, &container);
    of_privileges(&mut lines, &container);
    lines.text()
}

fn tasks(spec: &v1::ServiceSpec, counts: v1::ServiceCounts) -> String {
    if words::is_job(Some(spec)) {
        return format!(
            "{} running, {} completed, {} to complete",
            counts.running, counts.completed, counts.total
        );
    }
    format!("{} running, {} wanted", counts.running, counts.desired)
}

fn update(update: &v1::UpdateProgress) -> String {
    let at = time::seconds;
    let when = match update.completed_at {
        Some(completed) => format!("from {} to {}", at(update.started_at), at(completed)),
        None => format!("since {}", at(update.started_at)),
    };
    let message = if update.message.is_empty() { String::new() } else { format!(": {}", update.message) };
    let failed = match update.failed.len() {
        0 => String::new(),
        count => format!("; new tasks that failed: {count}, slots: {}", update.slots),
    };
    format!("{} ({when}){message}{failed}", words::update_state(update.state))
}

fn rebalance(rebalance: &v1::RebalanceProgress) -> String {
    let since = match rebalance.started_at {
        0 => String::new(),
        at => format!(" (since {})", time::seconds(at)),
    };
    let by_itself = if rebalance.automatic { " by itself" } else { "" };
    format!("{}{by_itself}{since}: {}", words::rebalance_state(rebalance.state), rebalance.message)
}

/// Nothing for what a service has unless it says otherwise.
fn rebalancing(config: &v1::RebalanceConfig) -> String {
    if *config == (&RebalanceConfig::default()).into() {
        return String::new();
    }
    let policy = if config.auto { "auto" } else { "off" };
    let (order, delay) = (words::update_order(config.order), render(config.delay));
    format!("{policy}, above a difference of {}, {order}, {delay} between", config.max_skew)
}

fn run(job: &v1::JobStatus) -> String {
    if job.run == 0 {
        return "no run yet".to_owned();
    }
    earlier_run(&v1::EarlierRun { run: job.run, started_at: job.started_at, ended_at: job.ended_at })
}

fn earlier_run(run: &v1::EarlierRun) -> String {
    let started = time::seconds(run.started_at);
    match run.ended_at {
        Some(ended) => format!("run {} from {started} to {}", run.run, time::seconds(ended)),
        None => format!("run {} since {started}", run.run),
    }
}

fn of_image(lines: &mut Lines, container: &v1::ContainerSpec) {
    let image = container.image.clone().unwrap_or_default();
    lines.add("Image", image.reference);
    lines.add("Digest", image.digest);
    lines.add("Entrypoint", container.entrypoint.join(" "));
    lines.add("Args", container.args.join(" "));
    lines.add("User", &container.user);
    lines.add("Groups", container.groups.join(", "));
    lines.add("Workdir", &container.workdir);
    lines.add("Hostname", &container.hostname);
}

fn of_rollouts(lines: &mut Lines, spec: &v1::ServiceSpec) {
    let restart = spec.task.as_ref().and_then(|task| task.restart).unwrap_or_default();
    lines.add("Restart", restarts(&restart));
    if !words::is_job(Some(spec)) {
        for (name, config) in [("Update config", &spec.update), ("Rollback config", &spec.rollback)] {
            lines.add(name, config.as_ref().map(rollout).unwrap_or_default());
        }
    }
    let job = spec.job.clone().unwrap_or_default();
    if let Some(schedule) = job.schedule {
        let zone = if schedule.timezone.is_empty() { "UTC" } else { &schedule.timezone };
        let rule = words::concurrency(schedule.concurrency);
        lines.add("Schedule", format!("{} ({zone}), overlapping runs: {rule}", schedule.cron));
    }
    if job.time_limit > 0 {
        lines.add("Time limit", render(job.time_limit));
    }
    lines.add("Removed after", job.time_to_live.map(render).unwrap_or_default());
}

fn restarts(restart: &v1::RestartPolicy) -> String {
    let mut parts = vec![words::restart_condition(restart.condition).to_owned()];
    if restart.condition == i32::from(v1::RestartCondition::None) {
        return parts.remove(0);
    }
    let delay = restart.delay.unwrap_or_else(|| nanos(DEFAULT_DELAY));
    parts.push(if delay == 0 { "at once".to_owned() } else { format!("after {}", render(delay)) });
    if restart.max_attempts > 0 {
        let within =
            if restart.window > 0 { format!(" within {}", render(restart.window)) } else { String::new() };
        parts.push(format!("{} attempts at most{within}", restart.max_attempts));
    }
    parts.join(", ")
}

fn rollout(config: &v1::UpdateConfig) -> String {
    let parallelism = match config.parallelism {
        0 => "all at a time".to_owned(),
        number => format!("{number} at a time"),
    };
    let mut parts = vec![parallelism, words::update_order(config.order).to_owned()];
    if config.delay > 0 {
        parts.push(format!("{} between", render(config.delay)));
    }
    parts.extend(config.monitor.map(|monitor| format!("watched for {}", render(monitor))));
    parts.extend(config.timeout.map(|timeout| match timeout {
        0 => "no time limit".to_owned(),
        timeout => format!("time limit {}", render(timeout)),
    }));
    let ratio = f64::from(config.max_failure_ratio) / 1e6;
    parts.push(format!("{} above a failure ratio of {ratio}", words::failure_action(config.failure_action)));
    parts.join(", ")
}

fn of_placement(lines: &mut Lines, task: &v1::TaskSpec, spec: &v1::ServiceSpec) {
    let placement = task.placement.clone().unwrap_or_default();
    lines.add("Constraints", placement.constraints.join(", "));
    lines.add("Preferences", placement.preferences.join(", "));
    if placement.strategy != i32::from(v1::PlacementStrategy::Spread) {
        lines.add("Strategy", words::strategy(placement.strategy));
    }
    if placement.max_replicas_per_node > 0 {
        lines.add("Tasks per node", format!("at most {}", placement.max_replicas_per_node));
    }
    lines.add("Away from", placement.away_from.join(", "));
    let ports: Vec<_> = placement.host_ports.iter().map(port::render).collect();
    lines.add("Ports of the node", ports.join(", "));
    lines.add("Rebalance config", spec.rebalance.as_ref().map(rebalancing).unwrap_or_default());
    lines.add("Node down delay", spec.node_down_delay.map(render).unwrap_or_default());
}

fn limits(limits: &v1::Limits) -> String {
    let mut parts = quantities(limits.nano_cpus, limits.memory_bytes);
    parts.extend(limits.pids.map(|pids| match pids {
        0 => "unlimited processes".to_owned(),
        _ => format!("{pids} processes"),
    }));
    parts.extend(limits.swap_bytes.map(|bytes| match u64::try_from(bytes) {
        Ok(bytes) => format!("{} swap", MemoryBytes(bytes)),
        Err(_) => "unlimited swap".to_owned(),
    }));
    parts.extend(limits.swappiness.map(|value| format!("swappiness {value}")));
    if !limits.cpuset.is_empty() {
        parts.push(format!("on processors {}", limits.cpuset));
    }
    parts.join(", ")
}

fn reservations(task: &v1::TaskSpec) -> String {
    let reservations = task.reservations.unwrap_or_default();
    let mut parts = quantities(reservations.nano_cpus, reservations.memory_bytes);
    let mut generic: Vec<_> = task.generic.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    generic.sort();
    parts.extend(generic);
    parts.join(", ")
}

fn quantities(nano_cpus: u64, memory_bytes: u64) -> Vec<String> {
    let mut parts = Vec::new();
    if nano_cpus > 0 {
        parts.push(format!("{} cpus", NanoCpus(nano_cpus)));
    }
    if memory_bytes > 0 {
        parts.push(format!("{} memory", MemoryBytes(memory_bytes)));
    }
    parts
}

fn of_container(lines: &mut Lines, container: &v1::ContainerSpec) {
    lines.all("Env", container.env.iter().cloned());
    lines.sorted("Container label", &container.labels);
    lines.all("Mount", container.mounts.iter().cloned().map(|mount| MountFlag(mount).to_string()));
    for kind in [v1::FileKind::Secret, v1::FileKind::Config] {
        let name = if file::word(kind) == "config" { "Config" } else { "Secret" };
        let files = container.files.iter().filter(|file| file.kind == i32::from(kind));
        lines.all(name, files.cloned().map(|file| FileFlag(file).to_string()));
    }
    lines.add("Health", container.health.as_ref().map(health).unwrap_or_default());
    let mut ulimits: Vec<_> =
        container.ulimits.iter().map(|(name, limit)| format!("{name}={}", ulimit::render(limit))).collect();
    ulimits.sort();
    lines.all("Ulimit", ulimits);
    lines.sorted("Sysctl", &container.sysctls);
    let dns = container.dns.clone().unwrap_or_default();
    lines.add("DNS", dns.servers.join(", "));
    lines.add("DNS options", dns.options.join(", "));
    lines.add("DNS search", dns.search.join(", "));
    lines.all("Host", container.hosts.iter().cloned());
    for (name, on) in
        [("Init", container.init), ("Terminal", container.tty), ("Root read-only", container.read_only)]
    {
        lines.add(name, if on { "yes" } else { "" });
    }
    lines.add("Stop signal", &container.stop_signal);
    lines.add("Stop grace period", container.stop_grace.map(render).unwrap_or_default());
    if container.pre_stop_delay > 0 {
        lines.add("Pre-stop delay", render(container.pre_stop_delay));
    }
    if container.shm_size > 0 {
        lines.add("Size of /dev/shm", MemoryBytes(container.shm_size).to_string());
    }
    if container.oom_score_adj != 0 {
        lines.add("OOM score adjustment", container.oom_score_adj.to_string());
    }
    let log = container.log.clone().unwrap_or_default();
    lines.add("Log driver", log.driver);
    lines.sorted("Log option", &log.options);
}

fn health(health: &v1::HealthConfig) -> String {
    let test = match &health.test {
        None => String::new(),
        Some(Test::Disabled(_)) => "off".to_owned(),
        Some(Test::Command(command)) => command.arguments.join(" "),
        Some(Test::Shell(line)) => line.clone(),
    };
    let every = health.interval.map(|interval| format!("every {}", render(interval)));
    let timeout = health.timeout.map(|timeout| format!("for {} at most", render(timeout)));
    let retries = health.retries.map(|retries| format!("{retries} failures"));
    let start =
        health.start_period.map(|period| format!("failures of the first {} do not count", render(period)));
    let often = health.start_interval.map(|interval| format!("every {} until then", render(interval)));
    let parts = [(!test.is_empty()).then_some(test), every, timeout, retries, start, often];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn of_privileges(lines: &mut Lines, container: &v1::ContainerSpec) {
    let privileges = container.privileges.clone().unwrap_or_default();
    lines.add("Privileged", if privileges.privileged { "yes" } else { "" });
    lines.add("Capabilities added", privileges.capabilities_added.join(", "));
    lines.add("Capabilities dropped", privileges.capabilities_dropped.join(", "));
    lines.add("New privileges", if privileges.new_privileges { "allowed" } else { "" });
    lines.add(
        "Seccomp",
        if privileges.seccomp.starts_with('{') { "a profile of its own" } else { &privileges.seccomp },
    );
    lines.add("AppArmor", privileges.apparmor);
    lines.add("SELinux", privileges.selinux.join(", "));
    lines.all("Device", container.devices.iter().cloned().map(|device| DeviceFlag(device).to_string()));
    for (name, mode) in [("PID", container.pid), ("IPC", container.ipc), ("UTS", container.uts)] {
        lines.add(name, if mode == i32::from(v1::NamespaceMode::Host) { "host" } else { "" });
    }
}
