//! Reacting to SIGTERM and SIGINT without a handler.
//!
//! The kernel drops signals with the default action that are sent to the first process of a process namespace,
//! unless they are blocked (pid_namespaces(7), signal(7)): so they are blocked, and one thread waits for them.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Blocks the signals in this thread and those that it starts later; with `end`, the first one ends the program.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn end_on_request(end: bool) -> io::Result<()> {
    let set = blocked()?;
    if end {
        std::thread::Builder::new().name("signals".into()).spawn(move || wait(&set))?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the standard library has no interface to signals")]
fn blocked() -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by sigemptyset before anything else uses it, and lives through all calls;
    // the old mask is not asked for.
    let (set, error) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        let set = set.assume_init();
        (set, libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()))
    };
    if error == 0 { Ok(set) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[expect(unsafe_code, reason = "the standard library has no interface to signals")]
#[expect(clippy::print_stdout, reason = "what it says is what it is for")]
fn wait(set: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both pointers are to values that live through the call.
    let error = unsafe { libc::sigwait(set, &raw mut signal) };
    if error == 0 {
        println!("responder: ends, as asked by signal {signal}");
        std::process::exit(0);
    }
}
