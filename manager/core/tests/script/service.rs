//! `service …` and `image …`

use coracle_manager_core::orchestrate::preview;
use coracle_manager_core::schedule::relocate::Relocation;
use coracle_manager_core::{Change, Outcome};
use coracle_model::digest::Digest;
use coracle_model::image::ImageEntry;
use coracle_model::job::{Concurrency, Schedule};
use coracle_model::node::Platform;
use coracle_model::placement::{HostPort, Protocol};
use coracle_model::rebalance::{RebalanceProgress, RebalanceState};
use coracle_model::service::{ServiceMode, ServiceSpec};
use coracle_model::time::Timestamp;
use coracle_model::version::Version;

use super::{Options, cpus, duration, memory};
use crate::world::{World, build};

pub fn run(world: &mut World, verb: &str, name: &str, options: &Options<'_>) -> Vec<String> {
    match verb {
        "create" => {
            let mut spec = build::service_spec(name, 1);
            set(&mut spec, options);
            super::file::give(world, &mut spec, options);
            if world.services.contains_key(name) && world.state.service(world.services[name]).is_some() {
                return outcome(world, Change::CreateService(Box::new(build::service(9999, spec))));
            }
            world.add_service(spec);
            Vec::new()
        }
        "update" => {
            let service = world.state.service(world.services[name]).unwrap();
            let (id, expected, mut spec) = (service.id, service.version, service.spec.clone());
            set(&mut spec, options);
            super::file::give(world, &mut spec, options);
            outcome(world, Change::UpdateService { service: id, expected, spec: Box::new(spec) })
        }
        "remove" => {
            let service = world.services[name];
            outcome(world, Change::RemoveService { service, expected: Version::default() })
        }
        "rollback" => {
            let service = world.state.service(world.services[name]).unwrap();
            let (service, expected) = (service.id, service.version);
            let message = "rollback in progress".to_owned();
            outcome(world, Change::RollBackService { service, expected, message, automatic: false })
        }
        "rebalance" => rebalance(world, name, options),
        "moves" => {
            let moves = preview(&world.state, world.services[name], None);
            let line = |next: &Relocation| {
                let (task, from, to) = (world.task_name(next.task), next.from, next.to);
                format!("{task} from {} to {}", world.node_name(from), world.node_name(to))
            };
            moves.iter().map(line).collect()
        }
        "rebalanced" => {
            let service = world.state.service(world.services[name]).unwrap();
            match &service.rebalance {
                Some(progress) => vec![format!(
                    "{}: {} ({} begun{})",
                    progress.state,
                    world.with_task_names(&progress.message),
                    progress.moves,
                    if progress.automatic { ", by itself" } else { "" }
                )],
                None => vec!["no rebalance".to_owned()],
            }
        }
        "status" => {
            let service = world.state.service(world.services[name]).unwrap();
            let image = &service.spec.task.container.image.reference;
            match &service.update {
                Some(update) => vec![format!(
                    "{image}: {}: {} ({} of {} failed)",
                    update.state,
                    world.with_task_names(&update.message),
                    update.failed.len(),
                    update.slots
                )],
                None => vec![format!("{image}: no update")],
            }
        }
        "secrets" => {
            let service = world.state.service(world.services[name]).unwrap();
            vec![super::file::of_service(&service.spec)]
        }
        "labels" => {
            let service = world.state.service(world.services[name]).unwrap();
            vec![service.spec.labels.keys().cloned().collect::<Vec<_>>().join(" ")]
        }
        "previous" => {
            let service = world.state.service(world.services[name]).unwrap();
            let image = |spec: &ServiceSpec| spec.task.container.image.reference.clone();
            vec![service.previous_spec.as_deref().map_or_else(|| "none".to_owned(), image)]
        }
        other => panic!("unknown command service {other}"),
    }
}

/// As an operator asks for it.
fn rebalance(world: &mut World, name: &str, options: &Options<'_>) -> Vec<String> {
    let service = world.state.service(world.services[name]).unwrap();
    let limit = options.get("limit").map(|limit| limit.parse().unwrap());
    let progress = match service.rebalance.as_deref() {
        Some(present) if present.state == RebalanceState::Moving => RebalanceProgress {
            limit: limit.map(|limit: u64| present.moves + limit),
            automatic: false,
            ..present.clone()
        },
        _ => RebalanceProgress::begun(world.now, false, limit),
    };
    let (service, expected) = (service.id, service.version);
    outcome(world, Change::SetRebalance { service, expected, progress })
}

/// Nothing for a change that was applied, the reason for one that was refused.
pub fn outcome(world: &mut World, change: Change) -> Vec<String> {
    match world.apply(vec![change]).0 {
        Outcome::Applied(_) => Vec::new(),
        Outcome::Refused(refusal) => vec![format!("refused: {:?}: {}", refusal.kind, refusal.message)],
    }
}

pub fn put_image(world: &mut World, name: &str, os: &str, architecture: &str) -> Vec<String> {
    let image = ImageEntry {
        name: name.to_owned(),
        version: Version::default(),
        digest: digest(name),
        size: 0,
        platform: Platform { os: os.to_owned(), architecture: architecture.to_owned() },
        created_at: Timestamp::EPOCH,
    };
    outcome(world, Change::PutImage(image))
}

fn digest(name: &str) -> Digest {
    let mut bytes = [0; 32];
    for (byte, from) in bytes.iter_mut().zip(name.bytes()) {
        *byte = from;
    }
    Digest::from_bytes(bytes)
}

fn set(spec: &mut ServiceSpec, options: &Options<'_>) {
    for (key, value) in options.iter() {
        let task = &mut spec.task;
        match key {
            "replicas" => spec.mode = ServiceMode::Replicated { replicas: value.parse().unwrap() },
            "rename" => spec.name = value.parse().unwrap(),
            "global" => spec.mode = ServiceMode::Global,
            "completions" => {
                spec.mode = ServiceMode::ReplicatedJob { completions: value.parse().unwrap(), concurrent: 0 };
            }
            "concurrent" => {
                if let ServiceMode::ReplicatedJob { concurrent, .. } = &mut spec.mode {
                    *concurrent = value.parse().unwrap();
                }
            }
            "global-job" => spec.mode = ServiceMode::GlobalJob,
            // With underscores for blanks, at which scripts are split.
            "schedule" => {
                let schedule = spec.job.schedule.get_or_insert(Schedule {
                    cron: String::new(),
                    timezone: String::new(),
                    concurrency: Concurrency::Forbid,
                    history: 3,
                });
                schedule.cron = value.replace('_', " ");
            }
            "concurrency" => {
                spec.job.schedule.as_mut().expect("after schedule").concurrency = value.parse().unwrap();
            }
            "keep" => {
                spec.job.schedule.as_mut().expect("after schedule").history = value.parse().unwrap();
            }
            "time-limit" => spec.job.time_limit = duration(value),
            "ttl" => spec.job.time_to_live = Some(duration(value)),
            "image" => {
                value.clone_into(&mut task.container.image.reference);
                task.container.image.digest = digest(value);
            }
            "env" => task.container.env = vec![value.to_owned()],
            "force" => task.force_update += 1,
            "cpu" => task.reservations.cpu.0 = cpus(value),
            "memory" => task.reservations.memory.0 = memory(value),
            "delay" => task.restart.delay = duration(value),
            "condition" => task.restart.condition = value.parse().unwrap(),
            "attempts" => task.restart.max_attempts = value.parse().unwrap(),
            "window" => task.restart.window = duration(value),
            "constraint" => task.placement.constraints = vec![value.parse().unwrap()],
            "also" => task.placement.constraints.push(value.parse().unwrap()),
            "unconstrained" => task.placement.constraints.clear(),
            "prefer" => {
                task.placement.preferences =
                    value.split(',').map(|key| format!("spread={key}").parse().unwrap()).collect();
            }
            "strategy" => task.placement.strategy = value.parse().unwrap(),
            "away" => drop(task.placement.away_from.insert(value.parse().unwrap())),
            "port" => {
                let port = HostPort { port: value.parse().unwrap(), protocol: Protocol::Tcp };
                task.placement.host_ports.insert(port);
            }
            "generic" => {
                let (kind, count) = value.split_once(':').unwrap();
                task.generic.insert(kind.to_owned(), count.parse().unwrap());
            }
            "per-node" => task.placement.max_replicas_per_node = value.parse().unwrap(),
            "parallelism" => spec.update.parallelism = value.parse().unwrap(),
            "order" => {
                (spec.update.order, spec.rollback.order) = (value.parse().unwrap(), value.parse().unwrap())
            }
            "pause-between" => spec.update.delay = duration(value),
            "monitor" => (spec.update.monitor, spec.rollback.monitor) = (duration(value), duration(value)),
            "failure-action" => spec.update.failure_action = value.parse().unwrap(),
            "ratio" => spec.update.max_failure_ratio = value.parse().unwrap(),
            "timeout" => (spec.update.timeout, spec.rollback.timeout) = (duration(value), duration(value)),
            "rebalance" => spec.rebalance.policy = value.parse().unwrap(),
            "max-skew" => spec.rebalance.max_skew = value.parse().unwrap(),
            "rebalance-delay" => spec.rebalance.delay = duration(value),
            "rebalance-order" => spec.rebalance.order = value.parse().unwrap(),
            "node-down-delay" => spec.node_down_delay = Some(duration(value)),
            "label" => drop(spec.labels.insert(value.to_owned(), String::new())),
            "secrets" => {}
            other => panic!("unknown option {other}"),
        }
    }
}
