//! A small client of Docker's Engine API over its local socket.
//!
//! See the API reference of Docker Engine. Paths have no version: the engine then takes its own, and what is used here
//! (Engine 20.10) has stayed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

/// How long one answer may take.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// The same for joining a swarm, which waits for others.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, used for one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects; the connection lives as long as the runtime that this runs on.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) async fn open(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end shows as an error of the next request.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and gives the body of the answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is an error.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Bytes> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("Host", "engine")
            .header("Content-Type", kind)
            .body(Full::new(body))?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }

    /// The same with JSON both ways; nothing in the body of the answer counts as null.
    ///
    /// # Errors
    /// As before, and when the answer is no JSON.
    pub(super) async fn json(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let answer = self.call(method, path, "application/json", body).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).with_context(|| format!("the answer to {path} is no JSON"))
    }
}

/// A client that keeps a connection.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    runtime: Arc<Runtime>,
    socket: PathBuf,
    held: Arc<Mutex<Option<Connection>>>,
}

impl Engine {
    /// A client for this socket.
    pub(super) fn new(runtime: &Arc<Runtime>, socket: &Path) -> Self {
        Self { runtime: Arc::clone(runtime), socket: socket.to_owned(), held: Arc::default() }
    }

    /// The socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What the engine says, or that it does not answer in time.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None, CALL_DEADLINE)
    }

    /// Tells the engine to do something.
    ///
    /// # Errors
    /// What the engine says, or that it does not answer in time.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body), CALL_DEADLINE)
    }

    /// The same for what takes an engine longer than other calls.
    ///
    /// # Errors
    /// What the engine says, or that it does not answer in time.
    pub(super) fn post_patiently(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body), PATIENCE)
    }

    /// Removes something.
    ///
    /// # Errors
    /// What the engine says, or that it does not answer in time.
    pub(super) fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, None, CALL_DEADLINE)
    }

    /// Loads an archive of images.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn load(&self, archive: Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            let mut connection = Connection::open(&self.socket).await?;
            connection.call(Method::POST, "/images/load?quiet=1", "application/x-tar", archive.into()).await
        })?;
        Ok(())
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>, deadline: Duration) -> Result<Value> {
        self.runtime.block_on(async {
            let mut held = self.held.lock().await;
            let mut connection = match held.take() {
                Some(connection) if !connection.sender.is_closed() => connection,
                _ => Connection::open(&self.socket).await?,
            };
            let answer = tokio::time::timeout(deadline, connection.json(method, path, body)).await;
            let answer = answer.with_context(|| format!("no answer to {path} within {deadline:?}"))?;
            // A connection on which a request failed is not used again, whatever the reason.
            if answer.is_ok() {
                *held = Some(connection);
            }
            answer
        })
    }
}

/// A value of a query string, with what could end it written as percent signs and hexadecimal digits (RFC 3986, 2.1).
pub(super) fn quoted(text: &str) -> String {
    text.bytes().fold(String::new(), |mut quoted, byte| {
        if byte.is_ascii_alphanumeric() {
            quoted.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut quoted, format_args!("%{byte:02X}"));
        }
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_quoted() {
        assert_eq!(quoted(r#"{"a":["b-1"]}"#), "%7B%22a%22%3A%5B%22b%2D1%22%5D%7D");
    }
}
