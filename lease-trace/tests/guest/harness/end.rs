//! The end of a process: asked for, and awaited with a limit.

use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

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

/// The end, still to come, of a process that need not be a child.
pub struct Departure {
    pid: i64,
    process: OwnedFd,
}

impl Departure {
    pub fn of(pid: i64) -> Self {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = pidfd_open(number.expect("a pid"), PidfdFlags::empty());
        let process = process.unwrap_or_else(|error| panic!("pidfd_open {pid}: {error}"));
        Self { pid, process }
    }

    pub fn kill(&self) {
        pidfd_send_signal(&self.process, Signal::KILL).expect("SIGKILL by root");
    }

    /// Waits until all its threads are gone.
    pub fn wait(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).expect("a few seconds");
        let mut polled = [PollFd::new(&self.process, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&limit)).expect("poll of a pidfd");
        assert_eq!(ready, 1, "{} did not end", self.pid);
    }
}
