//! Cuts and losses between hosts, made with `nft` on the host that has them, and slow links, made with `tc`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;
use crate::name::Name;

/// Every packet.
pub const ALL: u8 = 100;

/// Which way packets are lost, seen from the host that has the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// What others send to it.
    In,
    /// What it sends to others.
    Out,
}

/// The cuts that are in force: by the host that has the rules, and of how many in a hundred packets each is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cuts(BTreeMap<Name, BTreeMap<(Way, Name), u8>>);

impl Cuts {
    /// Notes a cut; [`Cuts::apply`] makes it so.
    pub fn add(&mut self, at: Name, way: Way, other: Name) {
        self.lose(at, way, other, ALL);
    }

    /// Notes that some packets in a hundred are lost, at random; [`Cuts::apply`] makes it so.
    pub fn lose(&mut self, at: Name, way: Way, other: Name, percent: u8) {
        let noted = self.0.entry(at).or_default().entry((way, other)).or_default();
        *noted = percent.max(*noted);
    }

    /// Forgets all cuts at one host and those of others towards it; gives the hosts whose rules change.
    pub fn heal(&mut self, name: Name) -> Vec<Name> {
        let mut changed = Vec::new();
        for (at, cuts) in &mut self.0 {
            let before = cuts.len();
            cuts.retain(|(_, other), _| *at != name && *other != name);
            if cuts.len() != before {
                changed.push(*at);
            }
        }
        changed
    }

    /// The hosts whose rules are others than those that `before` gave them.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> Vec<Name> {
        let mut hosts: Vec<Name> = self.0.keys().chain(before.0.keys()).copied().collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.retain(|at| self.rules(*at) != before.rules(*at));
        hosts
    }

    /// Gives the host exactly the rules that are noted for it, in one transaction.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn apply(&self, at: Name, host: &Host) -> Result<()> {
        let mut command = host.command("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start nft")?;
        let mut input = child.stdin.take().context("nft has no standard input")?;
        input.write_all(self.rules(at).as_bytes()).context("write rules to nft")?;
        drop(input);
        let result = child.wait_with_output().context("wait for nft")?;
        if !result.status.success() {
            bail!("nft on {at}: {}", String::from_utf8_lossy(&result.stderr).trim());
        }
        Ok(())
    }

    fn rules(&self, at: Name) -> String {
        let addresses = |way: Way, word: &str| {
            let cuts = self.0.get(&at).into_iter().flatten().filter(|((direction, _), _)| *direction == way);
            cuts.map(|((_, other), percent)| {
                let chance = match *percent {
                    ALL.. => String::new(),
                    some => format!("numgen random mod {ALL} < {some} "),
                };
                format!("    ip {word} {} {chance}drop\n", other.address())
            })
            .collect::<String>()
        };
        // Declared first, so that the deletion finds a table in any case.
        format!(
            "table inet lab\ndelete table inet lab\ntable inet lab {{\n  chain in {{\n    type filter hook input priority \
             -300;\n{}  }}\n  chain out {{\n    type filter hook output priority -300;\n{}  }}\n}}\n",
            addresses(Way::In, "saddr"),
            addresses(Way::Out, "daddr"),
        )
    }
}

/// Lets a host send no faster than this many kilobits a second; what waits for longer than 400 ms is lost.
///
/// # Errors
/// When `tc` refuses.
pub fn slow_down(host: &Host, kilobits: u32) -> Result<()> {
    // The bucket holds at least one packet of an Ethernet segment, or nothing would pass (tc-tbf(8)).
    let rate = format!("{kilobits}kbit");
    let line = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "8kb"];
    let mut command = host.command(line[0]);
    crate::process::output(command.args(&line[1..]).args(["latency", "400ms"])).map(drop)
}

/// Takes [`slow_down`] back.
///
/// # Errors
/// When `tc` refuses, also when the host is not slow.
pub fn speed_up(host: &Host) -> Result<()> {
    host.run(["tc", "qdisc", "delete", "dev", "eth0", "root"]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{M1, M2, W1};

    #[test]
    fn healing_a_host_takes_away_cuts_on_both_sides() {
        let mut cuts = Cuts::default();
        cuts.add(M1, Way::In, M2);
        cuts.add(M2, Way::Out, M1);
        cuts.add(M2, Way::Out, W1);
        assert_eq!(cuts.heal(M1), [M1, M2]);
        assert!(!cuts.rules(M2).contains("10.99.0.11"));
        assert!(cuts.rules(M2).contains("ip daddr 10.99.0.101 drop"));
        assert!(cuts.heal(M1).is_empty());
    }

    #[test]
    fn a_loss_is_at_random_and_a_cut_covers_it() {
        let mut cuts = Cuts::default();
        cuts.lose(M1, Way::In, M2, 30);
        assert!(cuts.rules(M1).contains("ip saddr 10.99.0.12 numgen random mod 100 < 30 drop"));
        let before = cuts.clone();
        cuts.add(M1, Way::In, M2);
        cuts.lose(M1, Way::In, M2, 30);
        assert!(cuts.rules(M1).contains("ip saddr 10.99.0.12 drop"));
        assert_eq!(cuts.changed_since(&before), [M1]);
        assert_eq!(cuts.changed_since(&cuts), []);
    }
}
