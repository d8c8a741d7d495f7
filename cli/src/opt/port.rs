//! Ports of the node that tasks take for themselves: `published=8080,target=8080,protocol=tcp,mode=host`.
//!
//! There is no ingress network yet: a published port is one that a task on the node's network listens on itself.

use coracle_proto::v1;

use super::FlagError;
use super::csv::{self, once};

/// Reads the value of `--publish`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<v1::HostPort, FlagError> {
    let refuse = |problem: &str| FlagError::new("publish", text, problem);
    if !text.contains('=') {
        return Err(refuse(
            "ports that every node opens are not there yet; use mode=host,target=PORT with --network host",
        ));
    }
    let fields = csv::fields(text).ok_or_else(|| refuse("a double quote is not closed"))?;
    let (mut published, mut target, mut protocol, mut mode) = (None, None, None, None);
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| refuse(&format!("write {field}=VALUE")))?;
        let outcome = match key {
            "published" => once(&mut published, key, number(value).ok_or_else(|| refuse(RANGE))?),
            "target" => once(&mut target, key, number(value).ok_or_else(|| refuse(RANGE))?),
            "protocol" => once(&mut protocol, key, protocol_of(value).ok_or_else(|| refuse(PROTOCOLS))?),
            "mode" => once(&mut mode, key, value.to_owned()),
            _ => Err(format!("unknown field {key:?}; use published, target, protocol and mode")),
        };
        outcome.map_err(|problem| refuse(&problem))?;
    }
    if mode.as_deref() != Some("host") {
        return Err(refuse("ports that every node opens are not there yet; add mode=host"));
    }
    let target = target.ok_or_else(|| refuse("the target is missing; add target=PORT"))?;
    if published.is_some_and(|published| published != target) {
        return Err(refuse(
            "on the node's network a port cannot be another one: give published and target alike",
        ));
    }
    let protocol = protocol.unwrap_or(v1::PortProtocol::Tcp);
    Ok(v1::HostPort { port: target, protocol: protocol.into() })
}

const RANGE: &str = "a port is a number from 1 to 65535";
const PROTOCOLS: &str = "the protocol is tcp, udp or sctp";

fn number(text: &str) -> Option<u32> {
    text.parse::<u16>().ok().filter(|port| *port > 0).map(u32::from)
}

fn protocol_of(text: &str) -> Option<v1::PortProtocol> {
    match text {
        "tcp" => Some(v1::PortProtocol::Tcp),
        "udp" => Some(v1::PortProtocol::Udp),
        "sctp" => Some(v1::PortProtocol::Sctp),
        _ => None,
    }
}

/// Reads the value of `--publish-rm`: `PORT[/PROTOCOL]`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn removal(text: &str) -> Result<v1::HostPort, FlagError> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let refuse = || FlagError::new("publish-rm", text, "use PORT, PORT/tcp, PORT/udp or PORT/sctp");
    let port = number(port).ok_or_else(refuse)?;
    Ok(v1::HostPort { port, protocol: protocol_of(protocol).ok_or_else(refuse)?.into() })
}

/// The port as it is shown: `8080/tcp`.
pub(crate) fn render(port: &v1::HostPort) -> String {
    format!("{}/{}", port.port, crate::output::words::protocol(port.protocol))
}

/// Ports as tables show them: `*:53->53/udp, *:8080-8082->8080-8082/tcp`. Neighbours are put together.
pub(crate) fn list(ports: &[v1::HostPort]) -> String {
    let mut ports: Vec<_> =
        ports.iter().map(|port| (crate::output::words::protocol(port.protocol), port.port)).collect();
    ports.sort_unstable_by_key(|(protocol, port)| (*port, *protocol));
    let mut ranges: Vec<(&str, u32, u32)> = Vec::new();
    for (protocol, port) in ports {
        let before = ranges.iter_mut().rev().find(|(of, _, last)| *of == protocol && last + 1 == port);
        match before {
            Some((_, _, last)) => *last = port,
            None => ranges.push((protocol, port, port)),
        }
    }
    let shown = ranges.into_iter().map(|(protocol, first, last)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        format!("*:{range}->{range}/{protocol}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_put_together() {
        let port = |port, protocol: v1::PortProtocol| v1::HostPort { port, protocol: protocol.into() };
        let (tcp, udp) = (v1::PortProtocol::Tcp, v1::PortProtocol::Udp);
        assert_eq!(list(&[]), "");
        assert_eq!(list(&[port(53, udp)]), "*:53->53/udp");
        let mixed = [port(82, tcp), port(80, tcp), port(81, udp), port(81, tcp), port(90, tcp)];
        assert_eq!(list(&mixed), "*:80-82->80-82/tcp, *:81->81/udp, *:90->90/tcp");
    }

    #[test]
    fn only_ports_of_the_node_itself_are_there() {
        let port = |text: &str| parse(text).map(|port| render(&port)).map_err(|error| error.to_string());
        assert_eq!(port("mode=host,target=80"), Ok("80/tcp".to_owned()));
        assert_eq!(port("published=53,target=53,protocol=udp,mode=host"), Ok("53/udp".to_owned()));
        for (text, part) in [
            ("8080:80", "not there yet; use mode=host"),
            ("published=8080,target=80", "add mode=host"),
            ("published=8080,target=80,mode=host", "give published and target alike"),
            ("mode=host", "the target is missing"),
            ("mode=host,target=0", "from 1 to 65535"),
            ("mode=host,target=80,protocol=icmp", "tcp, udp or sctp"),
            ("mode=host,target=80,colour=red", "unknown field \"colour\""),
        ] {
            let error = port(text).unwrap_err();
            assert!(error.starts_with("publish: invalid value ") && error.contains(part), "{error}");
        }
        assert_eq!(removal("53/udp").map(|port| render(&port)), Ok("53/udp".to_owned()));
        assert!(removal("80-90").is_err());
    }
}
