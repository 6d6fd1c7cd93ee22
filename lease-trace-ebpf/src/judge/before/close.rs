//! The system calls that close descriptors, looked at before they do anything: which leased files
//! they would let go of, and whether that is the last reference.
//!
//! Another thread can take or drop a reference between the look and the call. What slips through
//! is still seen when the lease ends.

use core::ffi::c_void;

use lease_trace_common::cause::Cause;

use crate::{
    bpf::loops,
    judge::{before::tally::Tally, moments, verdicts},
    kernel::{File, args::Decision, current},
};

/// Descriptors looked at in one call: as many as a process can have (`fs.nr_open`, by default). What is behind
/// them is not counted, so that a call over more goes through.
const MAX_DESCRIPTORS: u32 = 1 << 20;

/// close(fd)
#[inline(always)]
pub fn close(call: Decision) -> i64 {
    if verdicts::idle(Cause::Close) {
        return 0;
    }
    drop_descriptor(call, call.argument(0) as u32, Cause::Close)
}

/// dup2(old, new) and dup3(old, new, flags)
#[inline(always)]
pub fn dup2(call: Decision) -> i64 {
    if verdicts::idle(Cause::Dup2) {
        return 0;
    }
    let (old, new) = (call.argument(0) as u32, call.argument(1) as u32);
    if old == new || current::current().file(old).is_none() {
        return 0;
    }
    drop_descriptor(call, new, Cause::Dup2)
}

#[inline(always)]
fn drop_descriptor(call: Decision, fd: u32, cause: Cause) -> i64 {
    match current::current().file(fd) {
        Some(file) if file.references() == 1 => moments::before_release(call, file, cause),
        _ => 0,
    }
}

struct Range {
    first: u64,
    tally: Tally,
    /// The file that was found to be let go.
    file: u64,
}

/// close_range(first, last, flags)
#[inline(always)]
pub fn close_range(call: Decision) -> i64 {
    const UNSHARE: u64 = 2;
    const CLOEXEC: u64 = 4;
    if verdicts::idle(Cause::CloseRange) {
        return 0;
    }
    let flags = call.argument(2);
    // With an unshared table the descriptors stay open in the others'.
    if flags & CLOEXEC != 0 || (flags & UNSHARE != 0 && current::current().shares_descriptors()) {
        return 0;
    }
    let (first, last) = (call.argument(0) as u32, call.argument(1) as u32);
    match descriptors_let_go(u64::from(first), u64::from(last)) {
        0 => 0,
        file => moments::before_release(call, File(file as u64), Cause::CloseRange),
    }
}

/// The first leased file that closing these descriptors would let go of, and that matters to
/// somebody's pins; 0 for none. A global function, verified separately.
#[unsafe(no_mangle)]
extern "C" fn descriptors_let_go(first: u64, last: u64) -> i64 {
    let end = u64::from(current::current().descriptors());
    if first >= end || first > last {
        return 0;
    }
    let last = if last >= end { end - 1 } else { last };
    let length = last - first + 1;
    let length = if length > u64::from(MAX_DESCRIPTORS) {
        MAX_DESCRIPTORS
    } else {
        length as u32
    };
    let mut range = Range {
        first,
        tally: Tally::new(),
        file: loops::zero(),
    };
    loops::repeat(length, one_descriptor, &mut range);
    range.file as i64
}

unsafe extern "C" fn one_descriptor(index: u64, range: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `descriptors_let_go` gave it.
    let range = unsafe { &mut *range.cast::<Range>() };
    let Some(file) = current::current().file((range.first + index) as u32) else {
        return 0;
    };
    if range.tally.is_last(file) {
        range.file = file.0;
        return 1;
    }
    0
}
