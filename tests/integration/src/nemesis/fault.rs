//! Which faults there are, and how one is chosen.

use std::time::Duration;

use super::Random;
use crate::fault::{Cuts, Way};
use crate::name::Name;

/// Something that goes wrong for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The daemon is killed, and started again.
    Kill(Name),
    /// The daemon is asked to stop, and started again.
    Stop(Name),
    /// The daemon stands still (SIGSTOP).
    Pause(Name),
    /// No packet of the host reaches another or comes from one.
    CutOff(Name),
    /// The host hears nobody.
    Deaf(Name),
    /// Nobody hears the host.
    Mute(Name),
    /// One of two managers does not hear the other.
    Link {
        /// Who is not heard.
        from: Name,
        /// Who does not hear.
        to: Name,
    },
    /// Managers on one side, managers on the other.
    Split(Vec<Name>),
    /// Packets between the manager and the others are lost at random.
    Loss(Name, u8),
    /// The manager sends slowly: so many kilobits a second.
    Slow(Name, u32),
    /// The daemons of all managers are killed, and started again.
    KillManagers,
    /// All daemons are killed, and started again.
    KillAll,
}

/// Who can be chosen from.
#[derive(Debug, Clone)]
pub struct Field {
    /// The managers.
    pub managers: Vec<Name>,
    /// The workers that may be touched.
    pub workers: Vec<Name>,
    /// Those of both that have no fault at present.
    pub free: Vec<Name>,
    /// Who leads, as far as is known.
    pub leader: Option<Name>,
}

impl Fault {
    /// Chooses a fault and how long it lasts; nothing when nobody suitable is free.
    pub fn choose(random: &mut Random, field: &Field) -> Option<(Self, Duration)> {
        let all_free = field.managers.iter().chain(&field.workers).all(|name| field.free.contains(name));
        let free: Vec<Name> =
            field.managers.iter().filter(|name| field.free.contains(name)).copied().collect();
        let leader = field.leader.filter(|name| free.contains(name) && random.chance(50));
        let manager = leader.or_else(|| random.pick(&free).copied());
        let anybody = if random.chance(20) { random.pick(&field.workers).copied() } else { manager };
        let anybody = anybody.filter(|name| field.free.contains(name));
        let other = |random: &mut Random, one: Name| {
            let others: Vec<Name> = field.managers.iter().copied().filter(|name| *name != one).collect();
            random.pick(&others).copied()
        };
        let (fault, shortest, longest) = match random.below(100) {
            0..22 => (Self::Kill(anybody?), 0, 4_000),
            22..28 => (Self::Stop(anybody?), 0, 2_000),
            28..46 => (Self::Pause(anybody?), 1_000, 10_000),
            46..56 => (Self::CutOff(anybody?), 500, 8_000),
            56..63 => (Self::Deaf(manager?), 500, 8_000),
            63..70 => (Self::Mute(manager?), 500, 8_000),
            70..77 => (Self::Link { from: manager?, to: other(random, manager?)? }, 500, 8_000),
            77..86 => {
                (Self::Loss(manager?, [5, 15, 30, 50][usize::try_from(random.below(4)).ok()?]), 2_000, 10_000)
            }
            86..92 => (
                Self::Slow(manager?, [256, 1_000, 4_000][usize::try_from(random.below(3)).ok()?]),
                2_000,
                10_000,
            ),
            92..96 if free.len() == field.managers.len() && free.len() > 3 => {
                let second = other(random, manager?)?;
                (Self::Split(vec![manager?, second]), 500, 8_000)
            }
            92..96 if all_free => (Self::KillManagers, 0, 2_000),
            96.. if all_free => (Self::KillAll, 0, 2_000),
            _ => return None,
        };
        Some((fault, Duration::from_millis(shortest + random.below(longest - shortest))))
    }

    /// For counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Stop(_) => "stop",
            Self::Pause(_) => "pause",
            Self::CutOff(_) => "cut-off",
            Self::Deaf(_) => "deaf",
            Self::Mute(_) => "mute",
            Self::Link { .. } => "one-way-link",
            Self::Split(_) => "split",
            Self::Loss(..) => "loss",
            Self::Slow(..) => "slow",
            Self::KillManagers => "kill-all-managers",
            Self::KillAll => "kill-everybody",
        }
    }

    /// Who has this fault.
    #[must_use]
    pub fn hosts(&self, field: &Field) -> Vec<Name> {
        match self {
            Self::Kill(name)
            | Self::Stop(name)
            | Self::Pause(name)
            | Self::CutOff(name)
            | Self::Deaf(name)
            | Self::Mute(name)
            | Self::Loss(name, _)
            | Self::Slow(name, _) => vec![*name],
            Self::Link { from, .. } => vec![*from],
            Self::Split(side) => side.clone(),
            Self::KillManagers => field.managers.clone(),
            Self::KillAll => field.managers.iter().chain(&field.workers).copied().collect(),
        }
    }

    /// The cuts that it consists of. `everybody` are all hosts.
    pub fn add_cuts(&self, cuts: &mut Cuts, field: &Field, everybody: &[Name]) {
        let mut each = |at: Name, ways: &[Way], others: &[Name], percent: u8| {
            for other in others.iter().filter(|other| **other != at) {
                ways.iter().for_each(|way| cuts.lose(at, *way, *other, percent));
            }
        };
        let both = [Way::In, Way::Out];
        match self {
            Self::CutOff(name) => each(*name, &both, everybody, crate::fault::ALL),
            Self::Deaf(name) => each(*name, &[Way::In], everybody, crate::fault::ALL),
            Self::Mute(name) => each(*name, &[Way::Out], everybody, crate::fault::ALL),
            Self::Link { from, to } => each(*from, &[Way::Out], &[*to], crate::fault::ALL),
            Self::Split(side) => {
                let others: Vec<Name> =
                    field.managers.iter().filter(|name| !side.contains(name)).copied().collect();
                side.iter().for_each(|at| each(*at, &both, &others, crate::fault::ALL));
            }
            Self::Loss(name, percent) => each(*name, &both, &field.managers, *percent),
            Self::Kill(_)
            | Self::Stop(_)
            | Self::Pause(_)
            | Self::Slow(..)
            | Self::KillManagers
            | Self::KillAll => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{M1, M2, M3, W2};
    use std::collections::BTreeSet;

    fn field(managers: u8) -> Field {
        let managers: Vec<Name> = (1..=managers).map(Name::Manager).collect();
        let free = managers.iter().copied().chain([W2]).collect();
        Field { managers, workers: vec![W2], free, leader: Some(M2) }
    }

    fn chosen(seed: u64, field: &Field) -> Vec<(Fault, Duration)> {
        let mut random = Random::new(seed);
        (0..2_000).filter_map(|_| Fault::choose(&mut random, field)).collect()
    }

    #[test]
    fn a_seed_chooses_the_same_faults_again() {
        assert_eq!(chosen(7, &field(3)), chosen(7, &field(3)));
        assert_ne!(chosen(7, &field(3)), chosen(8, &field(3)));
    }

    #[test]
    fn every_kind_is_chosen_and_none_lasts_too_long() {
        let kinds = |managers| -> BTreeSet<&str> {
            let chosen = chosen(1, &field(managers));
            assert!(chosen.iter().all(|(_, length)| *length <= Duration::from_secs(10)));
            chosen.iter().map(|(fault, _)| fault.kind()).collect()
        };
        assert_eq!(kinds(3).len(), 11);
        assert!(kinds(5).contains("split"));
    }

    #[test]
    fn whoever_is_not_free_is_left_alone() {
        let mut field = field(3);
        field.free = vec![M3];
        for (fault, _) in chosen(3, &field) {
            assert_eq!(fault.hosts(&field), [M3], "{fault:?}");
        }
    }

    #[test]
    fn cuts_of_several_faults_add_up() {
        let (field, everybody) = (field(3), [M1, M2, M3, W2]);
        let (mut cuts, mut wanted) = (Cuts::default(), Cuts::default());
        Fault::Mute(M1).add_cuts(&mut cuts, &field, &everybody);
        Fault::Loss(M1, 30).add_cuts(&mut cuts, &field, &everybody);
        for other in [M2, M3, W2] {
            wanted.add(M1, Way::Out, other);
        }
        wanted.lose(M1, Way::In, M2, 30);
        wanted.lose(M1, Way::In, M3, 30);
        assert_eq!(cuts, wanted);
    }
}
