//! F_UNLCK of a lease, by F_SETLEASE or F_SETDELEG.

use lease_trace_common::{cause::Cause, lease::F_UNLCK};

use crate::{
    judge::{moments, verdicts},
    kernel::args::Decision,
    kernel::{File, Pointer as _, current},
};

/// The file_lock hook: a lease is being unlocked. It also serves flock and POSIX locks, and is
/// called on the way to `generic_setlease` or inside it; the system call says which it is.
#[inline(always)]
pub fn unlock(call: Decision) -> i64 {
    if call.number(1) as u32 != F_UNLCK || !verdicts::denies(Cause::Unlock) {
        return 0;
    }
    let file = File(call.pointer(0).number());
    if current::cause(file, 0, false) as u32 != Cause::Unlock as u32 {
        return 0;
    }
    moments::before_release(call, file, Cause::Unlock)
}
