//! Nodes that were off for longer than their certificates are good come back by themselves: a worker, a manager, and all managers at
//! once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coracle_integration::harness;
use coracle_integration::lab::{FORM_DEADLINE, Lab};
use coracle_integration::name::{M1, M2, M3, Name, W1};

/// How long certificates are good here.
const LIFE: &str = "9";
const OVER: &str = "this node's certificate is over";

#[test]
fn nodes_come_back_after_the_end_of_their_certificates() {
    harness::bare("come_back", 3, 1, |lab| {
        lab.node(M1).stop_daemon()?;
        lab.node(M1).set_environment(&[("CORACLE_CERTIFICATE_SECONDS", LIFE)]);
        lab.start_daemon(M1)?;
        lab.form()?;
        some_come_back(lab)?;
        all_managers_come_back(lab)
    });
}

/// Kills daemons and leaves them so until their certificates are over.
fn off_for_long(lab: &mut Lab, names: &[Name]) -> anyhow::Result<()> {
    for name in names {
        lab.node(*name).kill_daemon()?;
    }
    // Renewed at the latest just before.
    let life = Duration::from_secs(LIFE.parse::<u64>()? + 2);
    let over = SystemTime::now().duration_since(UNIX_EPOCH)? + life;
    lab.until("their certificates are over", |_| Ok(SystemTime::now().duration_since(UNIX_EPOCH)? > over))?;
    for name in names {
        lab.start_daemon(*name)?;
    }
    Ok(())
}

fn all_are_well(lab: &Lab, what: &str) -> anyhow::Result<()> {
    lab.eventually_within(what, FORM_DEADLINE, |view| view.ready() == 4 && view.voters() == 3)?;
    Ok(())
}

fn some_come_back(lab: &mut Lab) -> anyhow::Result<()> {
    let leader = lab.leader()?;
    let manager = [M1, M2, M3].into_iter().find(|name| *name != leader).unwrap_or(M3);
    off_for_long(lab, &[manager, W1])?;
    for name in [manager, W1] {
        lab.until("it has noticed", |lab| Ok(lab.get(name)?.log().contains(OVER)))?;
    }
    lab.until("both hold sessions again", |lab| {
        let with = |name| lab.info(name).map_or(String::new(), |info| info.session_with);
        Ok(!with(manager).is_empty() && !with(W1).is_empty())
    })?;
    all_are_well(lab, "both are back")
}

fn all_managers_come_back(lab: &mut Lab) -> anyhow::Result<()> {
    off_for_long(lab, &[M1, M2, M3])?;
    all_are_well(lab, "all managers are back")?;
    let logs = [M1, M2, M3].map(|name| lab.get(name).map(|node| node.log()).unwrap_or_default());
    anyhow::ensure!(logs.iter().any(|log| log.contains("it has given itself one")), "nobody helped itself");
    lab.cli(M1, "node update --label-add back=yes w1").ok()?;
    Ok(())
}
