//! What a node keeps of its membership: who it is and where it is reached. Sealed; written last when it joins, so that
//! a node either is a member or is not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use coracle_pki::NodeIdentity;
use coracle_seal::{KeyRing, read_sealed_file, write_sealed_file};
use zeroize::Zeroizing;

/// A node's membership.
#[derive(Debug)]
pub(super) struct Membership {
    /// Certificate, key and root.
    pub(super) identity: NodeIdentity,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// Where others reach it.
    pub(super) advertise: SocketAddr,
    /// Managers known when this was written; the agent learns of newer ones.
    pub(super) managers: Vec<String>,
    /// What `--advertise-addr` said: an address, an interface, or nothing.
    pub(super) chosen: String,
}

/// The file of a node's membership.
#[derive(Debug)]
pub(super) struct MembershipFile {
    path: PathBuf,
}

const PURPOSE: &[u8] = b"node membership";
const VERSION: &str = "coracle-membership 1";

impl MembershipFile {
    /// The file in the node's folder.
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join("membership") }
    }

    /// Reads it; nothing if this node is not a member.
    ///
    /// # Errors
    /// If it is damaged or sealed with another key.
    pub(super) fn read(&self, keys: &KeyRing) -> anyhow::Result<Option<Membership>> {
        let content = match read_sealed_file(keys, &self.path, PURPOSE) {
            Ok(content) => Zeroizing::new(content),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error).context("reading this node's membership"),
        };
        parse(&content).with_context(|| format!("{} is damaged", self.path.display())).map(Some)
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn write(&self, keys: &KeyRing, membership: &Membership) -> anyhow::Result<()> {
        self.store(keys, &self.encode(membership)?)
    }

    /// What would be written.
    ///
    /// # Errors
    /// If the key cannot be encoded.
    pub(super) fn encode(&self, membership: &Membership) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let pem = membership.identity.to_pem().context("encoding this node's identity")?;
        let mut content = Zeroizing::new(
            format!(
                "{VERSION}\nlisten {}\nadvertise {}\nmanagers {}\nchosen {}\n\n",
                membership.listen,
                membership.advertise,
                membership.managers.join(" "),
                membership.chosen,
            )
            .into_bytes(),
        );
        content.extend_from_slice(&pem);
        Ok(content)
    }

    /// Writes what [`MembershipFile::encode`] gave, sealed.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn store(&self, keys: &KeyRing, content: &[u8]) -> anyhow::Result<()> {
        coracle_crash_point::crash_point!("membership.before-write");
        write_sealed_file(keys, &self.path, PURPOSE, content).context("writing this node's membership")?;
        coracle_crash_point::crash_point!("membership.after-write");
        Ok(())
    }

    /// Removes it: the node is no longer a member.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn parse(content: &[u8]) -> anyhow::Result<Membership> {
    let split = content.windows(2).position(|pair| pair == b"\n\n").context("it has no header")?;
    let header = std::str::from_utf8(&content[..split]).context("its header is not text")?;
    let mut lines = header.lines();
    if lines.next() != Some(VERSION) {
        bail!("it was written by another version of coracle");
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
        line.with_context(|| format!("it has no {name}"))
    };
    let listen = field("listen")?.parse().context("listen")?;
    let advertise: SocketAddr = field("advertise")?.parse().context("advertise")?;
    let managers = field("managers")?.split_whitespace().map(str::to_owned).collect();
    Ok(Membership {
        listen,
        advertise,
        managers,
        // Not said by an older version: then the address is left as it is.
        chosen: field("chosen").unwrap_or_else(|_| advertise.to_string()),
        identity: NodeIdentity::from_pem(&content[split + 2..]).context("its identity cannot be read")?,
    })
}
