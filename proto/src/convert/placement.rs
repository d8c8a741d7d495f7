//! Where tasks may run.

use coracle_model::placement::{HostPort, Placement, Protocol, Strategy};

use super::{DecodeError, enumerator, parse};
use crate::v1;

impl From<&Placement> for v1::Placement {
    fn from(placement: &Placement) -> Self {
        Self {
            constraints: placement.constraints.iter().map(ToString::to_string).collect(),
            max_replicas_per_node: placement.max_replicas_per_node,
            preferences: placement.preferences.iter().map(ToString::to_string).collect(),
            strategy: match placement.strategy {
                Strategy::Spread => v1::PlacementStrategy::Spread,
                Strategy::Binpack => v1::PlacementStrategy::Binpack,
            }
            .into(),
            away_from: placement.away_from.iter().map(ToString::to_string).collect(),
            host_ports: placement.host_ports.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Placement> for Placement {
    type Error = DecodeError;

    fn try_from(message: v1::Placement) -> Result<Self, DecodeError> {
        let constraints =
            message.constraints.iter().map(|text| constraint(text)).collect::<Result<_, _>>()?;
        let preferences =
            message.preferences.iter().map(|text| parse("placement-pref", text)).collect::<Result<_, _>>()?;
        let away_from =
            message.away_from.iter().map(|text| parse("anti-affinity", text)).collect::<Result<_, _>>()?;
        Ok(Self {
            constraints,
            preferences,
            max_replicas_per_node: message.max_replicas_per_node,
            strategy: match enumerator::<v1::PlacementStrategy>("placement-strategy", message.strategy)? {
                v1::PlacementStrategy::Spread => Strategy::Spread,
                v1::PlacementStrategy::Binpack => Strategy::Binpack,
            },
            away_from,
            host_ports: message.host_ports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

/// The model's error says field and value already: only the problem is taken over.
fn constraint(text: &str) -> Result<coracle_model::constraint::Constraint, DecodeError> {
    text.parse().map_err(|error: coracle_model::constraint::ConstraintError| {
        let told = error.to_string();
        let prefix = format!("constraint: invalid value {text:?}: ");
        let problem = told.strip_prefix(&prefix).unwrap_or(&told);
        DecodeError::Invalid {
            field: "constraint",
            value: super::shortened(text),
            problem: problem.to_owned(),
        }
    })
}

impl From<&HostPort> for v1::HostPort {
    fn from(port: &HostPort) -> Self {
        let protocol = match port.protocol {
            Protocol::Tcp => v1::PortProtocol::Tcp,
            Protocol::Udp => v1::PortProtocol::Udp,
            Protocol::Sctp => v1::PortProtocol::Sctp,
        };
        Self { port: port.port.into(), protocol: protocol.into() }
    }
}

impl TryFrom<v1::HostPort> for HostPort {
    type Error = DecodeError;

    fn try_from(message: v1::HostPort) -> Result<Self, DecodeError> {
        let port = u16::try_from(message.port).ok().filter(|port| *port > 0);
        let port =
            port.ok_or_else(|| DecodeError::invalid("publish", message.port, "a port is 1 to 65535"))?;
        let protocol = match enumerator::<v1::PortProtocol>("protocol", message.protocol)? {
            v1::PortProtocol::Tcp => Protocol::Tcp,
            v1::PortProtocol::Udp => Protocol::Udp,
            v1::PortProtocol::Sctp => Protocol::Sctp,
        };
        Ok(Self { port, protocol })
    }
}
