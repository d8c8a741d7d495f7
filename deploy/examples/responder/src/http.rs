//! The HTTP responder.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it says is what it is for")]

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::act::{self, Outcome};

/// How long a client may take with its request.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest request head that is read, in lines.
const HEAD_LIMIT: usize = 100;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Answers on `$PORT` until it is ended.
pub(crate) fn serve() -> Outcome {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port: u16 = act::number(&port)?;
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|error| format!("port {port}: {error}"))?;
    println!("responder: answers on port {port}");
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                thread::spawn(move || {
                    if let Err(error) = answer(&stream) {
                        eprintln!("responder: a request failed: {error}");
                    }
                });
            }
            Err(error) => eprintln!("responder: cannot accept: {error}"),
        }
    }
    act::wait()
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut head = BufReader::new(stream).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    for line in head.take(HEAD_LIMIT) {
        if line?.is_empty() {
            break;
        }
    }
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    println!("responder: request {number}: {request}");
    let body = body(number);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn body(number: u64) -> String {
    let mut text = format!("hostname: {}\nrequests: {number}\n", act::hostname());
    for (name, value) in act::sorted_environment() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "env: {name}={value}");
    }
    text
}
