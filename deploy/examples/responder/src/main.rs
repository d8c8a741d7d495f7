//! The program in the example image: one static file that behaves well, or badly in a chosen way.
//!
//! Without arguments it answers HTTP on `$PORT` (8080) with its host name, a counter and its environment.
//! With arguments it does one thing that a container may do, so that what an orchestrator makes of it can be seen.
//! It ends at once when it is asked to (SIGTERM), also as the first process of a container, unless told not to.

mod act;
mod http;
mod signal;

use std::process::ExitCode;

const USAGE: &str = "\
usage: responder [MODE]
  (none)                answer HTTP on $PORT (default 8080)
  sleep                 wait to be ended
  exit STATUS [SECONDS] end with this status, at once or after a while
  crash-after SECONDS   run, then end with status 1
  ignore-term           wait, and do not react to SIGTERM
  print COUNT [MILLIS]  print lines to both outputs, with pauses, then wait
  burst COUNT           print lines as fast as possible, then end
  allocate MIB          fill memory, then wait
  spin                  use one processor
  fork COUNT            start this many processes, say how many there are, then wait
  write PATH            write a file, say how it went, then wait
  env                   print the environment, then wait
  id                    print user, groups, host name, process and folder, then wait";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let patient = matches!(words.as_slice(), ["ignore-term"]);
    if let Err(error) = signal::end_on_request(!patient) {
        return complain(&format!("cannot wait for signals: {error}"));
    }
    let result = match words.as_slice() {
        [] => http::serve(),
        ["sleep" | "ignore-term"] => act::wait(),
        ["exit", status] => act::number(status).map(|status| act::exit(status, 0.0)),
        ["exit", status, seconds] => {
            act::number(status).and_then(|status| Ok(act::exit(status, act::number(seconds)?)))
        }
        ["crash-after", seconds] => act::number(seconds).map(act::crash_after),
        ["print", count] => act::number(count).and_then(|count| act::print(count, 0)),
        ["print", count, pause] => {
            act::number(count).and_then(|count| act::number(pause).and_then(|pause| act::print(count, pause)))
        }
        ["burst", count] => act::number(count).map(act::burst),
        ["allocate", mebibytes] => act::number(mebibytes).and_then(act::allocate),
        ["spin"] => act::spin(),
        ["fork", count] => act::number(count).and_then(act::fork),
        ["write", path] => act::write(path),
        ["env"] => act::environment(),
        ["id"] => act::identity(),
        _ => Err(format!("unknown mode {words:?}\n{USAGE}")),
    };
    result.unwrap_or_else(|error| complain(&error))
}

#[expect(clippy::print_stderr, reason = "what it says is what it is for")]
fn complain(error: &str) -> ExitCode {
    eprintln!("responder: {error}");
    ExitCode::from(2)
}
