//! Inflicting faults on a lab, and taking them back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use coracle_proto::v1;

use super::Random;
use super::fault::{Fault, Field};
use crate::api::Api;
use crate::fault::{self, Cuts};
use crate::lab::Lab;
use crate::name::{Name, W1};

/// How long a manager may take to tell whether it leads.
const ASK: Duration = Duration::from_millis(200);

/// In how many of a hundred cases a fault begins while there is another.
const ANOTHER: u64 = 35;

/// The faults that are in force.
#[derive(Debug)]
pub(super) struct Inflictor {
    field: Field,
    everybody: Vec<Name>,
    active: Vec<(Fault, Instant)>,
    cuts: Cuts,
    /// How many faults there are at once.
    most: usize,
    counts: BTreeMap<&'static str, u32>,
}

impl Inflictor {
    pub(super) fn new(lab: &Lab) -> Self {
        let everybody = lab.names();
        let managers: Vec<Name> = everybody.iter().copied().filter(|name| name.is_manager()).collect();
        let workers = everybody.iter().copied().filter(|name| !name.is_manager() && *name != W1).collect();
        // A majority has no fault most of the time, so that there is something to see; not always.
        let most = managers.len() / 2 + 1;
        let field = Field { managers, workers, free: Vec::new(), leader: None };
        Self { field, everybody, active: Vec::new(), cuts: Cuts::default(), most, counts: BTreeMap::new() }
    }

    pub(super) fn counts(self) -> BTreeMap<&'static str, u32> {
        self.counts
    }

    /// Begins another fault, unless there are enough.
    pub(super) fn begin(&mut self, lab: &mut Lab, random: &mut Random) -> Result<()> {
        let enough = self.active.len() >= self.most || (!self.active.is_empty() && !random.chance(ANOTHER));
        if enough {
            return Ok(());
        }
        self.field.free = self.free();
        self.field.leader = self.leader(lab);
        let Some((fault, length)) = Fault::choose(random, &self.field) else { return Ok(()) };
        *self.counts.entry(fault.kind()).or_default() += 1;
        self.active.push((fault.clone(), Instant::now() + length));
        self.inflict(lab, &fault).with_context(|| format!("inflict {fault:?}"))
    }

    /// Takes back what has lasted long enough.
    pub(super) fn end_due(&mut self, lab: &mut Lab) -> Result<()> {
        self.end(lab, Instant::now())
    }

    /// Takes everything back, whatever fails on the way.
    pub(super) fn end_all(&mut self, lab: &mut Lab) -> Result<()> {
        let far = Instant::now() + Duration::from_secs(3600);
        let mut result = Ok(());
        while !self.active.is_empty() {
            result = result.and(self.end(lab, far));
        }
        result
    }

    /// A daemon that nobody killed runs.
    pub(super) fn check_daemons(&self, lab: &Lab) -> Result<()> {
        for name in &self.everybody {
            let node = lab.get(*name)?;
            if node.daemon().is_none() && !self.active.iter().any(|(fault, _)| self.ends_daemon(fault, *name))
            {
                bail!("the daemon of {name} ended by itself:\n{}", node.log_tail(30));
            }
        }
        Ok(())
    }

    fn ends_daemon(&self, fault: &Fault, name: Name) -> bool {
        match fault {
            Fault::Kill(one) | Fault::Stop(one) => *one == name,
            Fault::KillManagers => self.field.managers.contains(&name),
            Fault::KillAll => true,
            _ => false,
        }
    }

    fn free(&self) -> Vec<Name> {
        let busy: Vec<Name> = self.active.iter().flat_map(|(fault, _)| fault.hosts(&self.field)).collect();
        self.everybody.iter().copied().filter(|name| !busy.contains(name)).collect()
    }

    /// Who says of itself that it leads, among those that can say something.
    fn leader(&self, lab: &Lab) -> Option<Name> {
        let leads = |name: &Name| {
            let info = lab.api(*name).and_then(ask);
            info.is_ok_and(|info| info.raft.is_some_and(|raft| raft.is_leader))
        };
        self.field.managers.iter().copied().filter(|name| self.field.free.contains(name)).find(leads)
    }

    fn inflict(&mut self, lab: &mut Lab, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Kill(name) => lab.node(*name).kill_daemon(),
            Fault::Stop(name) => lab.node(*name).stop_daemon(),
            Fault::Pause(name) => lab.get(*name)?.pause_daemon(),
            Fault::Slow(name, kilobits) => fault::slow_down(lab.get(*name)?.host()?, *kilobits),
            Fault::KillManagers | Fault::KillAll => {
                let killed = self.everybody.iter().copied().filter(|name| self.ends_daemon(fault, *name));
                killed.collect::<Vec<_>>().into_iter().try_for_each(|name| lab.node(name).kill_daemon())
            }
            _ => self.apply_cuts(lab),
        }
    }

    /// Takes one fault back that was to end before `now`.
    fn end(&mut self, lab: &mut Lab, now: Instant) -> Result<()> {
        let Some(at) = self.active.iter().position(|(_, until)| *until <= now) else { return Ok(()) };
        let (fault, _) = self.active.remove(at);
        let result = match &fault {
            Fault::Kill(name) | Fault::Stop(name) => lab.node(*name).start_daemon(),
            Fault::Pause(name) => lab.get(*name)?.resume_daemon(),
            Fault::Slow(name, _) => fault::speed_up(lab.get(*name)?.host()?),
            Fault::KillManagers | Fault::KillAll => {
                let killed = self.everybody.iter().copied().filter(|name| self.ends_daemon(&fault, *name));
                killed.collect::<Vec<_>>().into_iter().try_for_each(|name| lab.node(name).start_daemon())
            }
            _ => self.apply_cuts(lab),
        };
        result.with_context(|| format!("end {fault:?}"))
    }

    /// Gives every host the rules of all faults together.
    fn apply_cuts(&mut self, lab: &Lab) -> Result<()> {
        let mut cuts = Cuts::default();
        for (fault, _) in &self.active {
            fault.add_cuts(&mut cuts, &self.field, &self.everybody);
        }
        let before = std::mem::replace(&mut self.cuts, cuts);
        for at in self.cuts.changed_since(&before) {
            self.cuts.apply(at, lab.get(at)?.host()?)?;
        }
        Ok(())
    }
}

fn ask(api: &Api) -> Result<v1::InfoResponse> {
    let mut client = v1::local_node_client::LocalNodeClient::new(api.channel());
    api.call(ASK, client.info(v1::InfoRequest {}))
}
