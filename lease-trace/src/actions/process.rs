//! A process that is certain to be the one meant, whatever becomes of its pid.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{kernel::limits, tracer};

/// Nanoseconds of a clock tick as /proc counts them (USER_HZ is 100 on x86-64).
const TICK_NS: u64 = 10_000_000;

/// A descriptor of the process with this pid that was started at `started_ns` after boot. Once it
/// is open the pid cannot be another's, so the start time is compared after that.
///
/// # Errors
/// ESRCH if that process is gone; another one in a pid namespace that is not the first.
pub fn open(pid: u32, started_ns: u64) -> io::Result<OwnedFd> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    if !limits::sees_all_processes() {
        return Err(io::Error::other(
            "the monitor is in another pid namespace, where this pid is another process's",
        ));
    }
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(raw.ok_or_else(gone)?, PidfdFlags::empty())?;
    match tracer::started(pid) {
        Some(ticks) if ticks == started_ns / TICK_NS => Ok(process),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_alone_is_not_a_process() {
        let pid = std::process::id();
        let ticks = tracer::started(pid).expect("this process runs");
        assert!(open(pid, ticks * TICK_NS + 5).is_ok());
        let error = open(pid, (ticks + 1) * TICK_NS).expect_err("another process");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
