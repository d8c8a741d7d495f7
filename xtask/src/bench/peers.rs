//! The peers' programs: Debian's packages, installed without letting their services start.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::packages::{self, Needed};
use crate::{privilege, step};

/// Asked by `invoke-rc.d` and `deb-systemd-invoke` before a package's service is started: invoke-rc.d(8).
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// "Action forbidden by policy", in the same place.
const FORBIDDEN: i32 = 101;

/// What the peers need: `runc` and `containerd` are separate packages of what `docker.io` needs.
const SWARM: &[Needed] =
    &[("dockerd", "docker.io"), ("containerd", "containerd"), ("runc", "runc"), ("iptables", "iptables")];
const ETCD: &[Needed] = &[("etcd", "etcd-server")];
const RUNTIMES: &[Needed] = &[("runc", "runc"), ("crun", "crun")];

/// Installs what the named peers need and is missing.
pub(super) fn install(peers: &str) -> Result<()> {
    let named = |name: &str| peers.split(',').any(|peer| peer == name);
    let wanted = [("swarm", SWARM), ("etcd", ETCD), ("runtimes", RUNTIMES)];
    let needed: Vec<Needed> = wanted
        .iter()
        .filter(|(name, _)| named(name))
        .flat_map(|(_, needed)| needed.iter().copied())
        .collect();
    if packages::has_all(&needed) {
        return Ok(());
    }
    let forbidden = Forbidden::start()?;
    let result = packages::install_missing(&needed);
    let ended = forbidden.end();
    result.and(ended)
}

/// Services of packages do not start while this lasts.
struct Forbidden {
    /// Whether the policy is ours, and goes again.
    ours: bool,
}

impl Forbidden {
    fn start() -> Result<Self> {
        if !Path::new(POLICY).exists() {
            let source = std::env::temp_dir().join(format!("policy-rc.d.{}", std::process::id()));
            fs::write(&source, format!("#!/bin/sh\nexit {FORBIDDEN}\n"))?;
            let mode = ["-m", "755", &source.to_string_lossy(), POLICY];
            let installed = step::run(&mut privilege::command("install", &mode));
            fs::remove_file(&source)?;
            return installed.map(|()| Self { ours: true });
        }
        let status = privilege::command(POLICY, &["docker", "start"]).status()?;
        if status.code() != Some(FORBIDDEN) {
            bail!(
                "{POLICY} allows services to start: install the peers' packages by hand, or take it away for the \
                 moment"
            );
        }
        Ok(Self { ours: false })
    }

    fn end(self) -> Result<()> {
        if self.ours { step::run(&mut privilege::command("rm", &["--force", POLICY])) } else { Ok(()) }
    }
}
