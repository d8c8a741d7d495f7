//! What the attacker does, each kind on a thread of its own, over and over until it is told to stop.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::frames::{begin, call, frame, message_head};

const ISSUE: &str = "/coracle.v1.CertificateAuthority/Issue";
const ROOT: &str = "/coracle.v1.CertificateAuthority/GetRoot";
/// Longest wait for the other side.
const WAIT: Duration = Duration::from_secs(2);
/// Between two tries of one kind, so that what is measured is not this thread's use of the processor.
const PAUSE: Duration = Duration::from_millis(5);

/// How often each kind was carried out.
pub(crate) type Done = Mutex<BTreeMap<&'static str, usize>>;

type Tls = StreamOwned<ClientConnection, TcpStream>;
/// One try; what it gives is kept open for a while.
type Kind = fn(SocketAddr) -> Result<Box<dyn Send>>;

/// The kinds, and how many of each are kept open.
const KINDS: [(&str, usize, Kind); 9] = [
    ("connects and says nothing", 400, silent),
    ("half a hello", 400, half_a_hello),
    ("handshakes", 0, handshake),
    ("handshakes that stay", 400, handshake),
    ("a message of a gigabyte", 0, gigabyte),
    ("a compressed bomb", 0, bomb),
    ("a body that never ends", 400, slow_body),
    ("thousands of streams", 0, streams),
    ("frames without sense", 0, nonsense),
];

/// Attacks all targets until `stop`. To be called on a thread in the attacker's network.
pub(crate) fn run(targets: &[String], stop: &AtomicBool, done: &Done) -> Result<()> {
    let targets: Vec<SocketAddr> = targets.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        for (name, kept, kind) in KINDS {
            let targets = &targets;
            // Threads inherit the network of the one that starts them.
            scope.spawn(move || repeat(targets, stop, done, (name, kept, kind)));
        }
    });
    Ok(())
}

fn repeat(
    targets: &[SocketAddr],
    stop: &AtomicBool,
    done: &Done,
    (name, kept, kind): (&'static str, usize, Kind),
) {
    let mut open = std::collections::VecDeque::new();
    for target in targets.iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // That it is refused is what it is for.
        if let Ok(connection) = kind(*target) {
            *done.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
            open.push_back(connection);
            if open.len() > kept {
                open.pop_front();
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Makes sure that the attack took place.
///
/// # Errors
/// Which kind did not.
pub(crate) fn every_kind_was_tried(done: &Done) -> Result<()> {
    let done = done.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, ..) in KINDS {
        let times = done.get(name).copied().unwrap_or_default();
        anyhow::ensure!(times > 0, "the attacker never managed: {name} ({done:?})");
    }
    Ok(())
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(stream)
}

fn silent(target: SocketAddr) -> Result<Box<dyn Send>> {
    Ok(Box::new(connect(target)?))
}

fn half_a_hello(target: SocketAddr) -> Result<Box<dyn Send>> {
    let mut stream = connect(target)?;
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])?;
    Ok(Box::new(stream))
}

fn tls(target: SocketAddr) -> Result<Tls> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("manager.invalid")?)?;
    let mut stream = StreamOwned::new(connection, connect(target)?);
    stream.conn.complete_io(&mut stream.sock).context("handshake")?;
    Ok(stream)
}

fn handshake(target: SocketAddr) -> Result<Box<dyn Send>> {
    Ok(Box::new(tls(target)?))
}

/// Sends and waits for what comes of it.
fn send(target: SocketAddr, parts: &[Vec<u8>]) -> Result<Box<dyn Send>> {
    let mut stream = tls(target)?;
    stream.write_all(&begin())?;
    for part in parts {
        if stream.write_all(part).is_err() {
            // The server has had enough.
            return Ok(Box::new(stream));
        }
    }
    let mut answer = [0; 1024];
    // Whether and what it answers does not matter.
    let _ = stream.read(&mut answer);
    Ok(Box::new(stream))
}

fn gigabyte(target: SocketAddr) -> Result<Box<dyn Send>> {
    let mut parts = vec![call(1, ISSUE, ""), frame(0, 0, 1, &message_head(false, 1 << 30))];
    parts.extend((0..16).map(|_| frame(0, 0, 1, &[0; 16_000])));
    send(target, &parts)
}

fn bomb(target: SocketAddr) -> Result<Box<dyn Send>> {
    // A block of deflate that repeats one byte, over and over (RFC 1951, section 3.2.5), behind a head of gzip (RFC 1952).
    let zeros = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 1][..], &[0; 12_000]].concat();
    let length = u32::try_from(zeros.len())?;
    let message = [message_head(true, length), zeros].concat();
    send(target, &[call(1, ISSUE, "gzip"), frame(0, 1, 1, &message)])
}

fn slow_body(target: SocketAddr) -> Result<Box<dyn Send>> {
    let mut stream = tls(target)?;
    stream.write_all(&begin())?;
    stream.write_all(&call(1, ISSUE, ""))?;
    stream.write_all(&frame(0, 0, 1, &message_head(false, 1000)))?;
    stream.write_all(&frame(0, 0, 1, b"x"))?;
    Ok(Box::new(stream))
}

fn streams(target: SocketAddr) -> Result<Box<dyn Send>> {
    let many = (0..4000u32).map(|number| call(2 * number + 1, ROOT, ""));
    send(target, &many.collect::<Vec<_>>())
}

fn nonsense(target: SocketAddr) -> Result<Box<dyn Send>> {
    let resets =
        (0..2000u32).map(|n| [call(2 * n + 1, ISSUE, ""), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat());
    let pings = (0..5000).map(|_| frame(6, 0, 0, &[7; 8]));
    let settings = (0..5000).map(|_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 9]));
    let endless =
        [frame(1, 0, 1, &[0x83])].into_iter().chain((0..5000).map(|_| frame(9, 0, 1, &[0x40, 1, 97, 1, 98])));
    send(target, &[resets.flatten().collect()])?;
    send(target, &[pings.flatten().collect()])?;
    send(target, &[settings.flatten().collect()])?;
    send(target, &[endless.flatten().collect()])?;
    // A message that is no protobuf: every field's number is zero.
    let message = [message_head(false, 900), vec![0; 900]].concat();
    send(target, &[call(1, ISSUE, ""), frame(0, 1, 1, &message)])
}

/// Accepts any server: the attacker does not care.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
