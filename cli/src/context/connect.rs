//! Making the connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_pki::tls::{ExpectedServer, SwappableIdentity, client_config};
use coracle_pki::{NodeIdentity, UnixTime};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use zeroize::Zeroizing;

use super::{BUNDLE_FILE, ConnectionArgs, Context, certificate_folder};
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// The port of managers where an address has none.
const DEFAULT_PORT: u16 = 2377;
const SOCKET_NAME: &str = "coracle.sock";
const DEFAULT_RUN_FOLDER: &str = "/run/coracle";

enum Target {
    Socket(PathBuf),
    Remote(String),
}

impl Context {
    /// Connects as the flags and the environment say; flags come first.
    ///
    /// # Errors
    /// When nothing answers there, or the certificate cannot be used.
    pub(crate) async fn connect(args: &ConnectionArgs) -> anyhow::Result<Self> {
        let deadline = args.request_timeout;
        match target(args) {
            Target::Socket(path) => {
                let channel = local(&path).await?;
                Ok(Self { channel, target: path.display().to_string(), remote: false, deadline })
            }
            Target::Remote(host) => {
                let address = with_port(&host)?;
                let channel = remote(&address, args.cert_dir.clone()).await?;
                Ok(Self { channel, target: address, remote: true, deadline })
            }
        }
    }
}

impl Context {
    /// Fails for a manager elsewhere: what concerns the node itself is done through its local socket only.
    ///
    /// # Errors
    /// When the connection is not the local socket's.
    pub(crate) fn require_local(&self) -> Result<(), Failure> {
        if !self.remote {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::Usage,
            "this command is about the node itself and works on that node only",
        )
        .with_hint("run it there, without --host and CORACLE_HOST"))
    }
}

fn target(args: &ConnectionArgs) -> Target {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (&args.host, &args.socket) {
        (Some(host), _) => Target::Remote(host.clone()),
        (None, Some(socket)) => Target::Socket(socket.clone()),
        (None, None) => match environment("CORACLE_HOST") {
            Some(host) => Target::Remote(host),
            None => Target::Socket(environment("CORACLE_SOCKET").map_or_else(
                || {
                    PathBuf::from(environment("CORACLE_RUN_DIR").as_deref().unwrap_or(DEFAULT_RUN_FOLDER))
                        .join(SOCKET_NAME)
                },
                PathBuf::from,
            )),
        },
    }
}

/// Connects once by hand, because an error of the socket says more than one of the transport.
async fn local(path: &Path) -> Result<Channel, Failure> {
    let first = UnixStream::connect(path).await.map_err(|error| unreachable_socket(path, error))?;
    let first = Arc::new(std::sync::Mutex::new(Some(first)));
    let path = path.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let first = first.lock().ok().and_then(|mut first| first.take());
        let path = path.clone();
        async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The URI is for HTTP's sake only.
    Ok(Endpoint::from_static("http://coracle")
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector_lazy(connector))
}

fn unreachable_socket(path: &Path, error: io::Error) -> Failure {
    use std::os::unix::fs::FileTypeExt as _;

    let place = path.display();
    let is_socket = std::fs::metadata(path).map(|metadata| metadata.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::ConnectionRefused if is_socket.is_ok_and(|is_socket| !is_socket) => {
            Failure::new(ExitCode::Usage, format!("{place} is no socket"))
                .with_hint("name the daemon's socket with --socket or CORACLE_SOCKET, or leave both out")
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new(ExitCode::Refused, format!("this user may not use the daemon's socket {place}"))
                .with_hint("run the command as root, or as a member of the group coracle")
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            ExitCode::Unavailable,
            format!("the daemon is not running or not reachable at {place}"),
        )
        .with_hint("start it with `coracle daemon` as root, or `systemctl start coracle`; another socket is named with --socket"),
        _ => Failure::new(ExitCode::Unavailable, format!("cannot connect to the daemon at {place}"))
            .caused_by(error),
    }
}

async fn remote(address: &str, folder: Option<PathBuf>) -> Result<Channel, Failure> {
    let identity = identity(folder)?;
    let broken = |what: &str| Failure::new(ExitCode::Failure, what.to_owned());
    let identity = SwappableIdentity::new(identity)
        .map_err(|error| broken("the operator's certificate cannot be used").caused_by(error))?;
    let tls = client_config(&identity, ExpectedServer::AnyManager)
        .map_err(|error| broken("the operator's certificate cannot be used").caused_by(error))?;
    coracle_rpc::connect::channel(address, Arc::new(tls)).await.map_err(|error| {
        Failure::new(ExitCode::Unavailable, format!("the manager at {address} cannot be reached"))
            .caused_by(error)
            .with_hint("check the address, that the daemon runs there as a manager, and that it is of this certificate's cluster")
    })
}

fn identity(folder: Option<PathBuf>) -> Result<NodeIdentity, Failure> {
    let how = "make a certificate with `coracle swarm operator-cert` on a manager, and name its folder with --cert-dir";
    let folder = certificate_folder(folder).ok_or_else(|| {
        Failure::new(ExitCode::Usage, "no folder with an operator's certificate is known").with_hint(how)
    })?;
    let path = folder.join(BUNDLE_FILE);
    let place = path.display().to_string();
    let text = std::fs::read(&path).map(Zeroizing::new).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("cannot read the operator's certificate {place}"))
            .caused_by(error)
            .with_hint(how)
    })?;
    let identity = NodeIdentity::from_pem(&text).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("the operator's certificate {place} cannot be used"))
            .caused_by(error)
            .with_hint(how)
    })?;
    if identity.is_expired(UnixTime::now()) {
        return Err(Failure::new(
            ExitCode::Refused,
            format!("the operator's certificate {place} has expired"),
        )
        .with_hint(how));
    }
    Ok(identity)
}

/// `IP:PORT`, with Swarm's port where there is none. Names are not resolved: this program carries no resolver.
fn with_port(host: &str) -> Result<String, Failure> {
    let host = host.strip_prefix("tcp://").unwrap_or(host);
    let named = host.replace("localhost", "127.0.0.1");
    if named.parse::<std::net::SocketAddr>().is_ok() {
        return Ok(named);
    }
    match named.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        Ok(address) => Ok(std::net::SocketAddr::new(address, DEFAULT_PORT).to_string()),
        Err(_) => Err(Failure::new(
            ExitCode::Usage,
            format!("host: invalid value {host:?}: use IP:PORT, such as 10.0.0.1:{DEFAULT_PORT}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_usual_port() {
        for (given, address) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("tcp://10.0.0.1:99", "10.0.0.1:99"),
            ("::1", "[::1]:2377"),
            ("[::1]:9", "[::1]:9"),
            ("localhost:5", "127.0.0.1:5"),
        ] {
            assert_eq!(with_port(given).unwrap(), address);
        }
        let error = with_port("manager.example:2377").unwrap_err().to_string();
        assert!(error.starts_with("host: invalid value \"manager.example:2377\": use IP:PORT"), "{error}");
    }
}
