//! Just enough of an HTTP client to ask the responder.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;

/// How long a connection or an answer may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Asks `http://ADDRESS/` from a host's network and gives the body.
///
/// # Errors
/// When there is no answer, or another than 200.
pub fn get(from: &Host, address: &str) -> Result<String> {
    from.in_network(|| {
        let peer = address.parse().with_context(|| format!("address {address:?}"))?;
        let mut stream =
            TcpStream::connect_timeout(&peer, DEADLINE).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(
            format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("read from {address}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{address} answered {}", head.lines().next().unwrap_or_default());
        }
        Ok(body.to_owned())
    })
}
