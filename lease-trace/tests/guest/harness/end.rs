//! The end of a process this test started: asked for, and awaited with a limit.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Waits for the end of a process, for so long.
pub fn wait(process: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = process.try_wait().expect("waiting for a child of ours") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a process that is not waited for yet.
pub fn interrupt(process: &Child, signal: libc::c_int) {
    // SAFETY: takes numbers; the pid is a child's that was not reaped, so it is nobody else's.
    unsafe { libc::kill(process.id().cast_signed(), signal) };
}
