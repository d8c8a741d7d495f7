//! Cuts between hosts, made with `nft` on the host that is cut.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;
use crate::name::Name;

/// Which way packets are lost, seen from the host that has the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// What others send to it.
    In,
    /// What it sends to others.
    Out,
}

/// The cuts that are in force, by the host that has the rules.
#[derive(Debug, Default)]
pub struct Cuts(BTreeMap<Name, BTreeSet<(Way, Name)>>);

impl Cuts {
    /// Notes a cut; [`Cuts::apply`] makes it so.
    pub fn add(&mut self, at: Name, way: Way, other: Name) {
        self.0.entry(at).or_default().insert((way, other));
    }

    /// Forgets all cuts at one host and those of others towards it; gives the hosts whose rules change.
    pub fn heal(&mut self, name: Name) -> Vec<Name> {
        let mut changed = Vec::new();
        for (at, cuts) in &mut self.0 {
            let before = cuts.len();
            cuts.retain(|(_, other)| *at != name && *other != name);
            if cuts.len() != before {
                changed.push(*at);
            }
        }
        changed
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
            let cuts = self.0.get(&at).into_iter().flatten().filter(|(direction, _)| *direction == way);
            cuts.map(|(_, other)| format!("    ip {word} {} drop\n", other.address())).collect::<String>()
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
}
