//! Which addresses this node listens on and is reached at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};

/// The port of a node unless said otherwise: Swarm's.
pub(super) const DEFAULT_PORT: u16 = 2377;

/// Of the family that is meant where none was said or had before: Swarm's choice too.
const FIRST_CHOICE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
    parse("listen-addr", text, DEFAULT_PORT, FIRST_CHOICE, known)
}

/// Reads `--advertise-addr`; without one, picks the only usable address there is. Where there are addresses of both families, the
/// IPv4 one is meant.
///
/// # Errors
/// If it cannot be read, or if there are several addresses to choose from or none.
pub(super) fn advertise(
    text: &str,
    listen: SocketAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    advertise_like(FIRST_CHOICE, text, listen, known)
}

fn advertise_like(
    like: IpAddr,
    text: &str,
    listen: SocketAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    if !text.is_empty() {
        return reachable(text, parse("advertise-addr", text, listen.port(), like, known)?);
    }
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    match alike(known.iter().collect(), like)[..] {
        [only] => Ok(SocketAddr::new(only.ip, listen.port())),
        [] => bail!(
            "advertise-addr: this machine has no address that others could reach; give one with --advertise-addr"
        ),
        ref several => {
            let listed: Vec<_> = several.iter().map(|a| format!("{} on {}", a.ip, a.interface)).collect();
            bail!(
                "advertise-addr: this machine has several addresses ({}); choose one with --advertise-addr",
                listed.join(", ")
            )
        }
    }
}

fn reachable(text: &str, address: SocketAddr) -> anyhow::Result<SocketAddr> {
    if address.port() == 0 {
        bail!("advertise-addr: invalid value {text:?}: other nodes need the port's number");
    }
    if address.ip().is_unspecified() {
        bail!("advertise-addr: invalid value {text:?}: other nodes cannot reach this address");
    }
    Ok(address)
}

/// Checks what `--advertise-addr` says to a member that starts, of which the interface may not be there yet, or have no address, or
/// several to choose from: only what can never be used is refused.
///
/// # Errors
/// If it is neither an address that others could reach nor could it be the name of an interface.
pub(super) fn check_advertise(text: &str, listen: SocketAddr) -> anyhow::Result<()> {
    match read("advertise-addr", text, listen.port())? {
        Read::Address(address) => reachable(text, address).map(drop),
        Read::Interface(_, 0) => {
            bail!("advertise-addr: invalid value {text:?}: other nodes need the port's number")
        }
        Read::Interface(name, _) if may_be_interface(name) => Ok(()),
        Read::Interface(..) => {
            bail!(
                "advertise-addr: invalid value {text:?}: neither an IP address nor the name of an interface"
            )
        }
    }
}

/// What Linux allows as the name of an interface.
fn may_be_interface(name: &str) -> bool {
    const LONGEST: usize = 15;
    let is_allowed = |byte: u8| byte != b'/' && byte != b':' && !byte.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() <= LONGEST && name.bytes().all(is_allowed)
}

/// Where a member is reached now that was last reached at `last`: `chosen` is what `--advertise-addr` said, and empty when the address
/// was found. One that was given as an address stays, and so does one that this machine still has; of a new one the family is that of
/// the last.
///
/// # Errors
/// If the address is gone and there is none, or none in particular, in its place.
pub(super) fn present(
    chosen: &str,
    last: SocketAddr,
    listen: SocketAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    let has_last = |name: Option<&str>| {
        let is_on = |address: &InterfaceAddress| name.is_none_or(|name| address.interface == name);
        known.iter().any(|address| address.ip == last.ip() && is_on(address))
    };
    if chosen.is_empty() {
        if !listen.ip().is_unspecified() || has_last(None) {
            return Ok(last);
        }
    } else if let Read::Interface(name, port) = read("advertise-addr", chosen, listen.port())?
        && has_last(Some(name))
    {
        return reachable(chosen, SocketAddr::new(last.ip(), port));
    }
    advertise_like(last.ip(), chosen, listen, known)
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

/// What an address was given as.
enum Read<'a> {
    Address(SocketAddr),
    /// The name of an interface, and a port.
    Interface(&'a str, u16),
}

/// `IP`, `IP:PORT`, `[IPv6]:PORT`, an interface, or an interface with `:PORT`.
fn read<'a>(field: &str, text: &'a str, port: u16) -> anyhow::Result<Read<'a>> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Read::Address(address));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Read::Address(SocketAddr::new(ip, port)));
    }
    let Some((name, digits)) = text.rsplit_once(':') else { return Ok(Read::Interface(text, port)) };
    let port = digits
        .parse()
        .with_context(|| format!("{field}: invalid value {text:?}: {digits:?} is not a port"))?;
    Ok(Read::Interface(name, port))
}

/// Reads an address; of those of an interface the one that is of the family of `like`, or else the only one.
fn parse(
    field: &str,
    text: &str,
    port: u16,
    like: IpAddr,
    known: &[InterfaceAddress],
) -> anyhow::Result<SocketAddr> {
    let (name, port) = match read(field, text, port)? {
        Read::Address(address) => return Ok(address),
        Read::Interface(name, port) => (name, port),
    };
    let on_it = known.iter().filter(|address| address.interface == name).collect();
    match alike(on_it, like)[..] {
        [only] => Ok(SocketAddr::new(only.ip, port)),
        [] => bail!(
            "{field}: invalid value {text:?}: neither an IP address nor an interface with a usable address"
        ),
        _ => {
            bail!("{field}: invalid value {text:?}: the interface has several addresses; give the one to use")
        }
    }
}

/// Those of the same family; all, if there is none.
fn alike(addresses: Vec<&InterfaceAddress>, like: IpAddr) -> Vec<&InterfaceAddress> {
    let (same, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.ip.is_ipv4() == like.is_ipv4());
    if same.is_empty() { others } else { same }
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

    const BOTH: [(&str, &str); 3] =
        [("eth0", "2001:db8::5"), ("eth0", "10.0.0.9"), ("eth1", "2001:db8:1::1")];

    #[test]
    fn of_both_families_the_one_of_ipv4_is_the_first_choice() {
        assert_eq!(choose("eth0", &BOTH), "10.0.0.9:2377");
        assert_eq!(choose("", &BOTH), "10.0.0.9:2377");
        assert_eq!(choose("eth1", &BOTH), "[2001:db8:1::1]:2377");
        let several = [("eth0", "2001:db8::5"), ("eth0", "2001:db8::6")];
        assert!(choose("eth0", &several).contains("several addresses"));
    }

    #[test]
    fn a_node_stays_in_the_family_of_its_last_address() {
        assert_eq!(moved("eth0", &BOTH), "10.0.0.9:2377");
        assert_eq!(moved("", &BOTH), "10.0.0.9:2377");
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        let from = |last: &str, chosen, addresses: &[(&str, &str)]| {
            let last = last.parse().expect("a test's address");
            present(chosen, last, listen, &known(addresses)).expect("an address").to_string()
        };
        assert_eq!(from("[2001:db8::99]:2377", "eth0", &BOTH), "[2001:db8::5]:2377");
        let more = [("eth0", "10.0.0.9"), ("eth0", "2001:db8::4"), ("eth0", "2001:db8::5")];
        assert_eq!(from("[2001:db8::5]:2377", "eth0", &more), "[2001:db8::5]:2377", "it still has it");
        assert_eq!(from("10.0.0.9:2377", "eth0:7000", &more), "10.0.0.9:7000", "another port was said");
        assert_eq!(from("10.0.0.5:2377", "eth1", &BOTH), "[2001:db8:1::1]:2377", "the only one there is");
    }

    #[test]
    fn only_what_can_never_be_used_keeps_a_member_from_starting() {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        for fine in ["10.0.0.5", "[2001:db8::1]:99", "eth7", "eth0.100:7000", "enp0s31f6"] {
            assert!(check_advertise(fine, listen).is_ok(), "{fine}");
        }
        for refused in
            ["0.0.0.0", "10.0.0.5:0", "eth0:0", "eth0:port", "not an interface", "a-name-too-long-for-one"]
        {
            let error = check_advertise(refused, listen).expect_err(refused).to_string();
            assert!(error.contains(&format!("{refused:?}")), "{error}");
        }
    }
}
