//! The lab's one segment: a bridge in a namespace of its own, one cable to every host.
//!
//! It is made with the `ip` program and not with code of the product, so that both do not share a mistake.

use anyhow::Result;

use crate::host::Host;
use crate::name::Name;

/// The bridge that joins the hosts.
#[derive(Debug)]
pub struct Segment {
    switch: Host,
}

impl Segment {
    /// Makes the bridge.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn start(bound: bool) -> Result<Self> {
        let switch = Host::start("switch", bound)?;
        switch.run(["ip", "link", "add", "br0", "type", "bridge"])?;
        switch.run(["ip", "link", "set", "br0", "up"])?;
        Ok(Self { switch })
    }

    /// Takes charge again of a segment that an earlier program left.
    #[must_use]
    pub fn adopt(switch: Host) -> Self {
        Self { switch }
    }

    /// The host of the bridge.
    #[must_use]
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    /// The same, to end it or to leave it.
    pub fn switch_mut(&mut self) -> &mut Host {
        &mut self.switch
    }

    /// Lays a cable from the bridge to the host and gives the host its address.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug(&self, name: Name, host: &Host) -> Result<()> {
        let port = name.to_string();
        let init = host.init().pid.to_string();
        // The host's process number means something else on the switch: the cable is made here, at the machine's
        // `ip`, with one end in each namespace, and is never in the machine's own network.
        let switch = self.switch.init().pid.to_string();
        let host_end = ["peer", "name", "eth0", "netns", &init];
        crate::process::output(
            std::process::Command::new("ip")
                .args(["link", "add", &port, "netns", &switch, "type", "veth"])
                .args(host_end),
        )?;
        self.switch.run(["ip", "link", "set", &port, "master", "br0", "up"])?;
        host.run(["ip", "address", "add", &format!("{}/24", name.address()), "dev", "eth0"])?;
        host.run(["ip", "link", "set", "eth0", "up"])?;
        Ok(())
    }

    /// Pulls the cable of a host, or puts it back: frames are lost, connections are not closed.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_link(&self, name: Name, up: bool) -> Result<()> {
        // The port leaves the bridge instead of going down: the host keeps its carrier and notices nothing.
        let port = name.to_string();
        if up {
            self.switch.run(["ip", "link", "set", &port, "master", "br0"])?;
        } else {
            self.switch.run(["ip", "link", "set", &port, "nomaster"])?;
        }
        Ok(())
    }
}
