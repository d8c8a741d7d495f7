//! The product, as something to be measured.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::interrupt;
use super::load;
use super::report::Report;
use super::subject::{Restart, Rollout, Running, SERVICE, Service, Subject};
use crate::host::Host;
use crate::image::RESPONDER;
use crate::lab::Lab;
use crate::name::{M1, Name};
use crate::process::Process;

/// How long one try of a write may take before the other manager is tried.
const TRY: Duration = Duration::from_millis(200);

/// A lab whose swarm is measured.
#[derive(Debug)]
pub(super) struct Coracle {
    lab: Lab,
    /// Updates so far: every one changes a variable of the service.
    updates: Cell<u32>,
}

impl Coracle {
    /// Forms a cluster of all hosts of the lab, with the image on every host.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn form(lab: &mut Lab, managers: u8, workers: u8) -> Result<()> {
        for name in Name::all(managers, workers) {
            lab.add(name)?;
        }
        lab.form()?;
        lab.load_responder(M1)?;
        // Every host fetches the image now, so that no measurement has to.
        lab.cli(M1, &format!("service create --name warm --mode global {RESPONDER} sleep")).ok()?;
        lab.cli(M1, "service rm warm").ok()?;
        lab.eventually("the cluster is idle", |view| view.tasks.is_empty())?;
        Ok(())
    }

    /// A cluster that was formed.
    pub(super) fn new(lab: Lab) -> Self {
        Self { lab, updates: Cell::new(0) }
    }

    /// The lab, to end it.
    pub(super) fn into_lab(self) -> Lab {
        self.lab
    }

    fn command(&self, line: &str) -> Result<()> {
        self.lab.cli(M1, line).ok().map(drop)
    }
}

/// The command that makes a service.
fn create_line(service: &Service) -> String {
    let mut line = format!("service create --detach --name {SERVICE} --replicas {}", service.replicas);
    // Writing to a string cannot fail.
    let _ = match service.restart {
        Restart::Default => Ok(()),
        Restart::AtOnce => write!(line, " --restart-delay 0s"),
        Restart::Never => write!(line, " --restart-condition none"),
    };
    if let Some(place) = service.place {
        let _ = write!(line, " --constraint node.hostname=={place}");
    }
    if service.host_network {
        line += " --network host";
    }
    if service.rollout != Rollout::DEFAULT {
        let order = if service.rollout.start_first { "start-first" } else { "stop-first" };
        let parallelism = service.rollout.parallelism;
        let _ = write!(line, " --update-parallelism {parallelism} --update-order {order}");
    }
    // How fast tasks are replaced is measured, not how long new ones are watched.
    line += " --update-monitor 0s";
    let _ = write!(line, " {RESPONDER} {}", service.arguments.join(" "));
    line
}

impl Subject for Coracle {
    fn names(&self) -> Vec<Name> {
        self.lab.names()
    }

    fn host(&self, name: Name) -> Result<&Host> {
        self.lab.get(name)?.host()
    }

    fn daemons(&self, name: Name) -> Result<Vec<Process>> {
        Ok(self.lab.get(name)?.daemon().into_iter().collect())
    }

    fn installed(&self) -> Vec<PathBuf> {
        vec![self.lab.binary().to_owned()]
    }

    fn create(&self, service: &Service) -> Result<()> {
        self.command(&create_line(service))
    }

    fn can_update(&self, rollout: Rollout) -> bool {
        let help = || self.lab.cli(M1, "service create --help").ok().unwrap_or_default();
        rollout == Rollout::DEFAULT
            || (help().contains("--update-parallelism") && help().contains("--update-order"))
    }

    fn update(&self) -> Result<()> {
        self.updates.set(self.updates.get() + 1);
        let round = self.updates.get();
        self.command(&format!("service update --detach --env-add ROUND={round} {SERVICE}"))
    }

    fn set_drained(&self, name: Name, drained: bool) -> Result<()> {
        let availability = if drained { "drain" } else { "active" };
        self.command(&format!("node update --availability {availability} {name}"))
    }

    fn to_zero(&self) -> Result<()> {
        self.command(&format!("service scale --detach {SERVICE}=0"))
    }

    fn remove(&self) -> Result<()> {
        self.command(&format!("service rm {SERVICE}"))
    }

    fn running(&self) -> Result<usize> {
        Ok(self.lab.view()?.running(SERVICE))
    }

    fn tasks(&self) -> Result<Vec<Running>> {
        let view = self.lab.view()?;
        let running = view.tasks_of(SERVICE).filter(|task| task.is_running());
        running
            .map(|task| {
                let host = self.lab.by_hostname(&task.node)?;
                Ok(Running { id: task.id.clone(), host, pid: task.pid })
            })
            .collect()
    }

    fn completed(&self) -> Result<usize> {
        let view = self.lab.view()?;
        Ok(view.tasks_of(SERVICE).filter(|task| task.exit_code() == Some(0)).count())
    }

    fn is_clear(&self) -> Result<bool> {
        Ok(self.lab.view()?.tasks.is_empty())
    }

    fn leader(&self) -> Result<Name> {
        self.lab.leader()
    }

    fn is_whole(&self) -> Result<bool> {
        let names = self.names();
        let managers = names.iter().filter(|name| name.is_manager()).count();
        let view = self.lab.view()?;
        Ok(view.ready() == names.len() && view.voters() == managers)
    }

    fn next_write(&self, lost: Name) -> Result<()> {
        let others: Vec<Name> =
            self.names().into_iter().filter(|name| name.is_manager() && *name != lost).collect();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while std::time::Instant::now() < end {
            interrupt::check()?;
            for name in &others {
                if self.lab.api(*name)?.set_label("w1", "bench", "1", TRY).is_ok() {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("no write was acknowledged within a minute");
    }

    fn kill_daemon(&mut self, name: Name) -> Result<()> {
        self.lab.node(name).kill_daemon()
    }

    fn start_daemon(&mut self, name: Name) -> Result<()> {
        self.lab.start_daemon(name)
    }

    fn isolate(&mut self, name: Name) -> Result<()> {
        self.lab.isolate(name)
    }

    fn heal(&mut self, name: Name) -> Result<()> {
        self.lab.heal(name)
    }

    fn power_off(&mut self, name: Name) -> Result<()> {
        self.lab.power_off(name)
    }

    fn power_on(&mut self, name: Name) -> Result<()> {
        self.lab.power_on(name)
    }

    fn load(&mut self, repetitions: u32, report: &mut Report) -> Result<()> {
        let daemons = load::managers(self)?;
        load::measure(&self.lab, &daemons, repetitions, report).context("writes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::W1;

    #[test]
    fn a_service_is_made_as_an_operator_would() {
        assert_eq!(
            create_line(&Service::sleeping(3)),
            "service create --detach --name app --replicas 3 --update-monitor 0s responder:1 sleep"
        );
        let service = Service {
            restart: Restart::Never,
            place: Some(W1),
            arguments: &["exit", "0"],
            rollout: Rollout { parallelism: 5, start_first: true },
            ..Service::sleeping(1)
        };
        assert_eq!(
            create_line(&service),
            "service create --detach --name app --replicas 1 --restart-condition none --constraint \
             node.hostname==w1 --update-parallelism 5 --update-order start-first --update-monitor 0s responder:1 exit \
             0"
        );
    }
}
