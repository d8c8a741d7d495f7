//! The optional small init: forwards signals to the program and reaps whatever is orphaned.

use crate::error::{CallError, InCall};
use crate::sys;
use rustix::process::{WaitOptions, WaitStatus};

/// Returns in a child that goes on to execute the program; the parent stays as process 1 and never returns.
///
/// The child keeps the sync socket until it executes, so the supervisor learns of a failure as ever.
pub(crate) fn split() -> Result<(), CallError> {
    sys::block_signals();
    let child = sys::fork().in_call(|| "fork()".into())?;
    if child == 0 {
        // Its own process group, so that a signal to the group does not come back to process 1.
        let _ = rustix::process::setpgid(None, None);
        return Ok(());
    }
    sys::set_name(c"coracle-init");
    // The ends of the pipes and of the sync socket would keep the supervisor from seeing that the program closed its own.
    sys::close_all_but_input();
    watch(child)
}

fn watch(child: i32) -> ! {
    loop {
        let Ok(signal) = sys::wait_for_signal() else { continue };
        if signal != libc::SIGCHLD {
            let _ = sys::kill(child, signal);
            continue;
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() == child {
                sys::exit_now(exit_code(status));
            }
        }
    }
}

/// 128 and the signal, as shells have it: process 1 cannot end itself by a signal.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}
