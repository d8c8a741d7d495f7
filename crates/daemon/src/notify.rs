//! Telling the service manager how far the daemon is: the protocol of sd_notify(3), without libsystemd.
//!
//! Without `NOTIFY_SOCKET` in the environment every call does nothing. Programs that the daemon starts
//! must not inherit that variable, nor `WATCHDOG_USEC` and `WATCHDOG_PID`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

use crate::error_chain::ErrorChain;

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The address is of a kind that is not supported.
    #[error("NOTIFY_SOCKET {address:?} is neither an absolute path nor begins with @")]
    Address {
        /// The address.
        address: String,
    },
    /// The socket cannot be made or addressed.
    #[error("cannot use NOTIFY_SOCKET {address:?}")]
    Socket {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A message was not accepted.
    #[error("cannot send {message:?} to the service manager")]
    Send {
        /// The message.
        message: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// If the address is not usable.
    pub fn from_environment() -> Result<Self, NotifyError> {
        let variable = |name| std::env::var_os(name);
        let mut notifier = Self::new(variable("NOTIFY_SOCKET").as_deref())?;
        notifier.watchdog = watchdog_interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Ok(notifier)
    }

    /// Uses `address`: an absolute path, or `@` and the name of an abstract socket (unix(7)). Nothing or
    /// an empty address makes a notifier that does nothing.
    ///
    /// # Errors
    /// If the address is not usable.
    pub fn new(address: Option<&OsStr>) -> Result<Self, NotifyError> {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(Self { target: None, watchdog: None });
        };
        let shown = || address.to_string_lossy().into_owned();
        let socket_error = |source| NotifyError::Socket { address: shown(), source };
        let target = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map_err(socket_error)?,
            [b'/', ..] => SocketAddr::from_pathname(address).map_err(socket_error)?,
            _ => return Err(NotifyError::Address { address: shown() }),
        };
        let socket = UnixDatagram::unbound().map_err(socket_error)?;
        Ok(Self { target: Some((socket, target)), watchdog: None })
    }

    /// The daemon has started, or has finished to reload.
    ///
    /// # Errors
    /// If the message is not accepted.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.send("READY=1")
    }

    /// The daemon begins to stop.
    ///
    /// # Errors
    /// If the message is not accepted.
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.send("STOPPING=1")
    }

    /// The daemon reads its configuration again; [`Notifier::ready`] is to follow.
    ///
    /// # Errors
    /// If the message is not accepted.
    pub fn reloading(&self) -> Result<(), NotifyError> {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"))
    }

    /// One line for people about what the daemon does. Line breaks become spaces.
    ///
    /// # Errors
    /// If the message is not accepted.
    pub fn status(&self, line: &str) -> Result<(), NotifyError> {
        self.send(&format!("STATUS={}", line.replace(['\n', '\r'], " ")))
    }

    /// The daemon is alive.
    ///
    /// # Errors
    /// If the message is not accepted.
    pub fn watchdog(&self) -> Result<(), NotifyError> {
        self.send("WATCHDOG=1")
    }

    /// How long the service manager waits for a sign of life before it kills the daemon, if it does.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Gives signs of life, twice in each interval, until `token` is cancelled. Returns at once if
    /// nobody waits for them. That the runtime still runs this is what it shows.
    pub async fn keep_alive(&self, token: &CancellationToken) {
        let Some(interval) = self.watchdog else {
            return;
        };
        let mut ticks = tokio::time::interval(interval / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                () = token.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.watchdog() {
                tracing::warn!(error = %ErrorChain(&error), "no sign of life was given");
            }
        }
    }

    fn send(&self, message: &str) -> Result<(), NotifyError> {
        let Some((socket, target)) = &self.target else {
            return Ok(());
        };
        socket
            .send_to_addr(message.as_bytes(), target)
            .map(|_| ())
            .map_err(|source| NotifyError::Send { message: message.to_owned(), source })
    }
}

/// The interval of sd_watchdog_enabled(3): none if it is not set, not a positive number, or meant for
/// another process.
fn watchdog_interval(microseconds: Option<&OsStr>, pid: Option<&OsStr>, own_pid: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    if let Some(pid) = pid
        && number(pid)? != u64::from(own_pid)
    {
        return None;
    }
    microseconds.and_then(number).filter(|count| *count > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn check_messages(notifier: &Notifier, socket: &UnixDatagram) {
        notifier.ready().unwrap();
        assert_eq!(received(socket), "READY=1");
        notifier.stopping().unwrap();
        assert_eq!(received(socket), "STOPPING=1");
        notifier.status("two\nlines").unwrap();
        assert_eq!(received(socket), "STATUS=two lines");
        notifier.reloading().unwrap();
        let text = received(socket);
        let number = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(number.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn speaks_to_a_socket_with_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        check_messages(&Notifier::new(Some(path.as_os_str())).unwrap(), &socket);
    }

    #[test]
    fn speaks_to_an_abstract_socket() {
        let name = format!("coracle-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        check_messages(&Notifier::new(Some(OsStr::new(&format!("@{name}")))).unwrap(), &socket);
    }

    #[test]
    fn nobody_to_speak_to_is_no_error() {
        for address in [None, Some(OsStr::new(""))] {
            Notifier::new(address).unwrap().ready().unwrap();
        }
    }

    #[test]
    fn faults_are_named() {
        let error = Notifier::new(Some(OsStr::new("vsock:2:1"))).unwrap_err();
        assert!(error.to_string().contains("vsock:2:1"), "{error}");
        let notifier = Notifier::new(Some(OsStr::new("/nonexistent/notify"))).unwrap();
        assert!(matches!(notifier.ready(), Err(NotifyError::Send { .. })));
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_is_named() {
        let interval = |microseconds, pid| {
            watchdog_interval(Some(OsStr::new(microseconds)), Option::map(pid, OsStr::new), 7)
        };
        assert_eq!(interval("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(interval("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!(interval("3000000", Some("8")), None);
        assert_eq!(interval("3000000", Some("x")), None);
        assert_eq!(interval("0", None), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_are_given_until_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::new(Some(path.as_os_str())).unwrap();
        let token = CancellationToken::new();
        notifier.keep_alive(&token).await;
        notifier.watchdog = Some(Duration::from_secs(2));
        let three = async {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            token.cancel();
        };
        tokio::join!(notifier.keep_alive(&token), three);
        for _ in 0..3 {
            assert_eq!(received(&socket), "WATCHDOG=1");
        }
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
    }
}
