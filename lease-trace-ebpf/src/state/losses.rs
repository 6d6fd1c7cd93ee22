//! Losses, doubts and corrections: counted, and logged where somebody asked for that. The log says what a counter
//! cannot: of which inode, page or lease, and in which thread.

use aya_log_ebpf::debug;
use lease_trace_common::{count::Count, logged::Logged};

use crate::{bpf::task, state::maps::count};

/// Counts a loss. `subject` is what it is about, as [`Logged`] has it.
#[inline(always)]
pub fn lost(which: Count, n: u64, subject: u64) {
    count(which, n);
    loss_log(which as u64, n, subject);
}

/// Logs what is no loss.
#[inline(always)]
pub fn logged(what: Logged, n: u64, subject: u64) {
    loss_log(what.number(), n, subject);
}

/// Left out unless `LEASE_TRACE_LOG` asks for it (`lease_trace::tracer::raw`), so that not even the verifier walks
/// it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn loss_log(what: u64, n: u64, subject: u64) -> i64 {
    let thread = task::pid_tgid();
    debug!((), "{} {} {:x} {}", what, n, subject, thread);
    0
}
