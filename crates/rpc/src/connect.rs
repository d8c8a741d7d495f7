//! Channels to other nodes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_pki::tls::PeerError;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for a TCP connection and the TLS handshake on it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a quiet connection is probed, and how long an answer may take: a cut link is noticed within both.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Why no channel could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is not an address.
    #[error("address: invalid value {0:?}: use IP:PORT")]
    Address(String),
    /// The other side cannot be reached or is not who it should be.
    #[error("cannot connect to {address}")]
    Connect {
        /// `IP:PORT`
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Reads `IP:PORT`.
///
/// # Errors
/// If it is not that.
pub fn parse_address(text: &str) -> Result<SocketAddr, ConnectError> {
    text.parse().map_err(|_| ConnectError::Address(text.to_owned()))
}

fn endpoint() -> Endpoint {
    // The URI is for HTTP's sake only: whom we talk to is decided by the connector and the certificate.
    Endpoint::from_static("http://coracle")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
}

async fn dial(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(tls).connect(coracle_pki::tls::server_name(), stream).await.map_err(plainly)
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer in time"))
    })??;
    Ok(TokioIo::new(stream))
}

/// A refusal of the server's certificate in the words of who refused it: rustls shows only its debugging form.
fn plainly(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(why) = refused.and_then(PeerError::of) else { return error };
    io::Error::new(io::ErrorKind::InvalidData, why.clone())
}

/// A channel that connects when it is first used, and again whenever its connection is lost.
///
/// # Errors
/// If the address cannot be parsed.
pub fn channel_lazy(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let address = parse_address(address)?;
    Ok(endpoint()
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| dial(address, Arc::clone(&tls)))))
}

/// The same, to a place that is asked for whenever a connection is made: where it was may not be where it is.
pub fn channel_to(
    place: impl Fn() -> Result<SocketAddr, ConnectError> + Send + Sync + 'static,
    tls: Arc<ClientConfig>,
) -> Channel {
    let place = Arc::new(place);
    endpoint().connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let (place, tls) = (Arc::clone(&place), Arc::clone(&tls));
        async move { dial(place().map_err(io::Error::other)?, tls).await }
    }))
}

/// A channel that is connected.
///
/// # Errors
/// If the address cannot be parsed, or the other side cannot be reached or is not who it should be.
pub async fn channel(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let socket = parse_address(address)?;
    endpoint()
        .connect_with_connector(tower::service_fn(move |_: Uri| dial(socket, Arc::clone(&tls))))
        .await
        .map_err(|source| ConnectError::Connect { address: address.to_owned(), source })
}
