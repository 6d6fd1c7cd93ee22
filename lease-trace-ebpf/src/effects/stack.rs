//! The stack of a call that pins: who its consumer is shows there. It goes straight into the stake; where
//! there is none yet, or no context to take it from, it waits in a map for the thread.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_stack;
use lease_trace_common::{STACK_LEN, stake::pins};

use crate::{bpf::mem, kernel::current, state::maps::STACKS, state::stakes::StakeRef};

/// Notes it in the stake if these are its first pins; where there is no stake it is kept, and true is
/// returned.
#[inline(always)]
pub fn note(ctx: *mut c_void, stake: Option<StakeRef>) -> bool {
    let Some(stake) = stake else {
        keep(ctx);
        return true;
    };
    if pins(stake.word()) == 0 {
        note_in(ctx, stake);
    }
    false
}

/// Notes it in the stake.
#[inline(always)]
pub fn note_in(ctx: *mut c_void, stake: StakeRef) {
    // SAFETY: a live map value.
    unsafe { write(ctx, &raw mut (*stake.get_ptr()).stack) };
}

/// Keeps it for functions that have no context to take it from.
#[inline(always)]
pub fn keep(ctx: *mut c_void) {
    let thread = current::pid_tgid();
    if STACKS.insert(thread, &NO_STACK, 0).is_ok()
        && let Some(stack) = STACKS.get_ptr_mut(thread)
    {
        // SAFETY: a live map value.
        unsafe { write(ctx, stack) };
    }
}

/// Puts what was kept into the stake.
#[inline(always)]
pub fn move_to(stake: StakeRef) {
    if let Some(stack) = STACKS.get_ptr(current::pid_tgid()) {
        // SAFETY: live map values.
        unsafe { mem::copy(&raw mut (*stake.get_ptr()).stack, &*stack) };
    }
}

/// What was kept is not needed any more.
#[inline(always)]
pub fn forget() {
    _ = STACKS.remove(current::pid_tgid());
}

static NO_STACK: [u64; STACK_LEN] = [0; STACK_LEN];

/// # Safety
/// `to` is part of a live map value.
#[inline(always)]
unsafe fn write(ctx: *mut c_void, to: *mut [u64; STACK_LEN]) {
    // SAFETY: the caller guarantees the place, which has room for STACK_LEN addresses. The helper
    // leaves what is behind the last frame as it was.
    unsafe {
        mem::clear(to);
        bpf_get_stack(ctx, to.cast(), (STACK_LEN * 8) as u32, 0);
    }
}
