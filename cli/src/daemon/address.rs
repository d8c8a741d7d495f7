//! Which addresses this node listens on and is reached at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};

/// The port of a node unless said otherwise: Swarm's.
pub(super) const DEFAULT_PORT: u16 = 2377;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InterfaceAddress {
    pub(super) interface: String,
    pub(super) ip: IpAddr,
}

/// All addresses of this machine that others may reach: no loopback, no link-local ones.
///
/// # Errors
/// If the kernel does not list them.
pub(super) fn usable() -> anyhow::Result<Vec<InterfaceAddress>> {
    let all = if_addrs::get_if_addrs().context("listing the addresses of this machine")?;
    let usable = all.into_iter().filter(|address| !address.is_loopback() && !address.is_link_local());
    Ok(usable.map(|address| InterfaceAddress { ip: address.ip(), interface: address.name }).collect())
}

/// Reads `--listen-addr`.
///
/// # Errors
/// If it is neither an address nor an interface of this machine.
pub(super) fn listen(text: &str, known: &[InterfaceAddress]) -> anyhow::Result<SocketAddr> {
    if text.is_empty() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)));
    }
    parse("listen-addr", text, DEFAULT_PORT, known)
}

/// Reads `--advertise-addr`; without one, picks the only usable address there is.
///
/// # Errors
/// If it cannot be read, or if there are several addresses to choose from or none.
pub(super) fn advertise(
    text: &str,
    listen: SocketAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    if !text.is_empty() {
        let address = parse("advertise-addr", text, listen.port(), known)?;
        if address.port() == 0 {
            bail!("advertise-addr: invalid value {text:?}: other nodes need the port's number");
        }
        if address.ip().is_unspecified() {
            bail!("advertise-addr: invalid value {text:?}: other nodes cannot reach this address");
        }
        return Ok(address);
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    match known {
        [only] => Ok(SocketAddr::new(only.ip, listen.port())),
        [] => bail!(
            "advertise-addr: this machine has no address that others could reach; give one with --advertise-addr"
        ),
        several => {
            let listed: Vec<_> = several.iter().map(|a| format!("{} on {}", a.ip, a.interface)).collect();
            bail!(
                "advertise-addr: this machine has several addresses ({}); choose one with --advertise-addr",
                listed.join(", ")
            )
        }
    }
}

/// Where a member is reached now that was last reached at `last`: `chosen` is what `--advertise-addr` said, and empty when the address
/// was found. One that was given as an address stays, and so does one that this machine still has.
///
/// # Errors
/// If the address is gone and there is none, or none in particular, in its place.
pub(super) fn present(
    chosen: &str,
    last: SocketAddr,
    listen: SocketAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    if chosen.parse::<SocketAddr>().is_ok() || chosen.parse::<IpAddr>().is_ok() {
        return advertise(chosen, listen, known);
    }
    let interface = chosen.rsplit_once(':').map_or(chosen, |(name, _)| name);
    let here = |address: &InterfaceAddress| {
        address.ip == last.ip() && (interface.is_empty() || address.interface == interface)
    };
    if known.iter().any(here) || (chosen.is_empty() && !listen.ip().is_unspecified()) {
        return Ok(last);
    }
    advertise(chosen, listen, known)
}

/// What an operator should know of an advertised address: one that this machine lacks is right behind a router that translates
/// addresses, and a slip of the hand everywhere else.
///
/// # Errors
/// If the kernel does not list this machine's addresses.
pub(super) fn warnings(advertise: SocketAddr) -> anyhow::Result<Vec<String>> {
    let all = if_addrs::get_if_addrs().context("listing the addresses of this machine")?;
    let own: Vec<IpAddr> = all.iter().map(if_addrs::Interface::ip).collect();
    Ok(foreign(advertise.ip(), &own).into_iter().collect())
}

fn foreign(advertise: IpAddr, own: &[IpAddr]) -> Option<String> {
    (!own.contains(&advertise)).then(|| {
        format!(
            "advertise-addr: no interface of this machine has the address {advertise}; other nodes reach this one only if \
             something passes on what is sent there"
        )
    })
}

/// `IP`, `IP:PORT`, `[IPv6]:PORT`, an interface, or an interface with `:PORT`.
fn parse(field: &str, text: &str, port: u16, known: &[InterfaceAddress]) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, digits)) => {
            let port = digits
                .parse()
                .with_context(|| format!("{field}: invalid value {text:?}: {digits:?} is not a port"))?;
            (name, port)
        }
        None => (text, port),
    };
    match known.iter().filter(|address| address.interface == name).collect::<Vec<_>>()[..] {
        [only] => Ok(SocketAddr::new(only.ip, port)),
        [] => bail!(
            "{field}: invalid value {text:?}: neither an IP address nor an interface with a usable address"
        ),
        _ => {
            bail!("{field}: invalid value {text:?}: the interface has several addresses; give the one to use")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(addresses: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        let address = |(interface, ip): &(&str, &str)| InterfaceAddress {
            interface: (*interface).to_owned(),
            ip: ip.parse().expect("a test's address"),
        };
        addresses.iter().map(address).collect()
    }

    fn choose(text: &str, addresses: &[(&str, &str)]) -> String {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        advertise(text, listen, &known(addresses)).map_or_else(|error| error.to_string(), |a| a.to_string())
    }

    #[test]
    fn the_only_address_is_chosen() {
        assert_eq!(choose("", &[("eth0", "10.0.0.5")]), "10.0.0.5:2377");
    }

    #[test]
    fn an_address_of_another_machine_is_warned_of() {
        let own = ["127.0.0.1", "10.0.0.5"].map(|text| text.parse().expect("a test's address"));
        assert_eq!(foreign(own[0], &own), None);
        assert_eq!(foreign(own[1], &own), None);
        let warning = foreign("10.0.0.6".parse().expect("a test's address"), &own).expect("a warning");
        assert!(warning.contains("10.0.0.6"), "{warning}");
    }

    #[test]
    fn several_addresses_are_listed() {
        let error = choose("", &[("eth0", "10.0.0.5"), ("eth1", "192.0.2.1")]);
        assert!(error.contains("10.0.0.5 on eth0, 192.0.2.1 on eth1"), "{error}");
    }

    #[test]
    fn addresses_and_interfaces_are_understood() {
        let machine = [("eth0", "10.0.0.5"), ("eth1", "2001:db8::1")];
        assert_eq!(choose("10.9.9.9", &machine), "10.9.9.9:2377");
        assert_eq!(choose("10.9.9.9:99", &machine), "10.9.9.9:99");
        assert_eq!(choose("eth1:7000", &machine), "[2001:db8::1]:7000");
        assert!(choose("eth7", &machine).contains("\"eth7\""));
        assert!(choose("0.0.0.0", &machine).contains("cannot reach"));
    }

    fn moved(chosen: &str, addresses: &[(&str, &str)]) -> String {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        let last = "10.0.0.5:2377".parse().expect("a test's address");
        present(chosen, last, listen, &known(addresses))
            .map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    #[test]
    fn an_address_that_was_found_is_found_again() {
        assert_eq!(moved("", &[("eth0", "10.0.0.5")]), "10.0.0.5:2377");
        assert_eq!(moved("", &[("eth0", "10.0.0.9")]), "10.0.0.9:2377");
        // One that it still has stays, whatever came besides.
        assert_eq!(moved("", &[("eth1", "10.1.0.1"), ("eth0", "10.0.0.5")]), "10.0.0.5:2377");
        assert!(moved("", &[("eth0", "10.0.0.9"), ("eth1", "10.1.0.1")]).contains("several addresses"));
        assert!(moved("", &[]).contains("no address"));
    }

    #[test]
    fn one_that_was_given_stays_and_an_interface_is_followed() {
        assert_eq!(moved("10.0.0.5", &[("eth0", "10.0.0.9")]), "10.0.0.5:2377");
        assert_eq!(moved("203.0.113.1:99", &[("eth0", "10.0.0.9")]), "203.0.113.1:99");
        let both = [("eth0", "10.0.0.9"), ("eth1", "10.0.0.5")];
        assert_eq!(moved("eth0", &both), "10.0.0.9:2377", "another interface has the old one");
        assert_eq!(moved("eth0:7000", &both), "10.0.0.9:7000");
        assert!(moved("eth0", &[("eth1", "10.0.0.7")]).contains("\"eth0\""));
    }
}
