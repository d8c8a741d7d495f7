//! The runner of golden scripts.
#![allow(unreachable_pub, reason = "a part of a test")]

mod file;
mod node;
mod service;
mod task;

use std::time::Duration;

use coracle_manager_core::schedule::Explanations;
use coracle_manager_core::{State, counts};

use crate::world::World;
use crate::world::show::rounded;

/// Runs a script and gives it back with what its commands print now.
pub fn run(script: &str) -> String {
    let mut world = World::default();
    let mut printed = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            printed.push_str(line);
            printed.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            printed.push_str(line);
            printed.push('\n');
            for output in command_of(&mut world, command) {
                printed.push_str(&output);
                printed.push('\n');
            }
        }
    }
    printed
}

/// The first lines that differ, with some around.
pub fn difference(expected: &str, printed: &str) -> String {
    let same = expected.lines().zip(printed.lines()).take_while(|(left, right)| left == right).count();
    let around =
        |text: &str| text.lines().skip(same.saturating_sub(4)).take(16).collect::<Vec<_>>().join("\n");
    format!("--- expected\n{}\n--- printed\n{}\n", around(expected), around(printed))
}

fn command_of(world: &mut World, command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["node", verb, name, rest @ ..] => node::run(world, verb, name, &Options::parse(rest)),
        ["service", verb, name, rest @ ..] => service::run(world, verb, name, &Options::parse(rest)),
        ["secret", verb, name, rest @ ..] => file::run(world, verb, name, &Options::parse(rest)),
        ["image", name, os, architecture] => service::put_image(world, name, os, architecture),
        ["task", verb, name, rest @ ..] => task::run(world, verb, name, &Options::parse(rest)),
        ["tick", time] => {
            world.tick(duration(time));
            Vec::new()
        }
        ["plan"] => plan(world),
        ["agents"] => {
            world.agents_obey();
            Vec::new()
        }
        ["converge"] => {
            world.converge();
            Vec::new()
        }
        ["history", limit] => {
            world.set_history(limit.parse().unwrap());
            Vec::new()
        }
        ["restore"] => {
            world.state = State::from_records(world.state.records()).unwrap();
            Vec::new()
        }
        ["show", service] => show(world, service),
        ["progress", service] => progress(world, service),
        ["explain", task] => {
            let id = world.task(task).id;
            vec![Explanations::of(&world.state).why(id).unwrap_or_else(|| "nothing to explain".to_owned())]
        }
        _ => panic!("unknown command {command:?}"),
    }
}

fn plan(world: &mut World) -> Vec<String> {
    let settled = world.settle();
    let mut lines = settled.lines;
    if let Some(at) = settled.rest.wake_at {
        lines.push(format!("wake in {:?}", rounded(at.since(world.now))));
    }
    for waiting in settled.rest.waiting {
        let service = world.service_name(waiting.service);
        lines.push(format!("{} of {service} waiting: {}", waiting.tasks, waiting.reason));
    }
    if lines.is_empty() { vec!["nothing".to_owned()] } else { lines }
}

fn show(world: &World, service: &str) -> Vec<String> {
    let id = world.services[service];
    let mut tasks: Vec<_> = world.state.tasks_of_service(id).collect();
    tasks.sort_by_key(|task| (task.slot, task.created_at));
    tasks.into_iter().map(|task| world.task_line(task)).collect()
}

fn progress(world: &World, service: &str) -> Vec<String> {
    let progress = counts::progress(&world.state, world.services[service]);
    let mut lines = vec![format!(
        "{}/{} running, {} up to date, {}",
        progress.counts.running,
        progress.counts.desired,
        progress.up_to_date,
        if progress.converged { "converged" } else { "not converged" }
    )];
    if progress.counts.total > 0 {
        lines.push(format!("{} of {} completed", progress.counts.completed, progress.counts.total));
    }
    if progress.remaining > 0 {
        lines.push(format!("{} remaining", progress.remaining));
    }
    lines.extend(progress.waiting);
    let failures = progress.slots.iter().filter(|slot| !slot.error.is_empty());
    lines.extend(failures.map(|slot| format!("{service}.{} failed: {}", slot.slot, slot.error)));
    lines
}

/// `key=value` words.
pub struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> Self {
        Self(words.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.0.iter().copied()
    }

    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }
}

pub fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap());
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        other => panic!("unknown unit {other}"),
    }
}

pub fn memory(text: &str) -> u64 {
    match text.strip_suffix("GiB") {
        Some(number) => number.parse::<u64>().unwrap() << 30,
        None => text.strip_suffix("MiB").unwrap().parse::<u64>().unwrap() << 20,
    }
}

pub fn cpus(text: &str) -> u64 {
    (text.parse::<f64>().unwrap() * 1e9) as u64
}
