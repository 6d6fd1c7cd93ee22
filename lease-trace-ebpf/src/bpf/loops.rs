//! Loops, as the kernel has them for programs.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lease_trace_common::line::Line;

/// Always zero, which the verifier does not know.
#[unsafe(no_mangle)]
static mut ZERO: Line = Line::new(0);

/// A callback of bpf_loop: index and state; 1 ends the loop.
pub type Turn = unsafe extern "C" fn(u64, *mut c_void) -> i64;

/// Calls `turn` `n` times, or until it ends the loop; how often it did.
#[inline(always)]
pub fn repeat<T>(n: u32, turn: Turn, state: &mut T) -> u64 {
    // SAFETY: the callback has the signature the helper wants, and `state` outlives the call;
    // that the callback takes it for what it is, is up to the caller.
    let turns = unsafe { bpf_loop(n, turn as *mut c_void, core::ptr::from_mut(state).cast(), 0) };
    turns as u64
}

/// Zero, read from a global that is never written: the verifier takes it for any number, so that
/// every turn of a loop looks the same to it and it need not follow the count.
#[inline(always)]
pub fn zero() -> u64 {
    // SAFETY: a global of this object.
    unsafe { core::ptr::read_volatile((&raw const ZERO).cast()) }
}

/// Writes a number so that it is any number to the verifier when it is read again, and every turn of a
/// loop that keeps it is alike.
#[inline(always)]
pub fn keep(place: &mut u64, number: u64) {
    *place = number.wrapping_add(zero());
}
