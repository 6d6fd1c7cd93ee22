//! Loops, as the kernel has them for programs: so many times, or over all elements of a map.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_for_each_map_elem, bpf_loop},
    maps::HashMap,
};
use lease_trace_common::stake::{Stake, StakeKey};

use crate::state::maps::{COVERS, CoverKey, STAKES, ZERO};

/// A callback of bpf_loop: index and state; 1 ends the loop.
pub type Turn = unsafe extern "C" fn(u64, *mut c_void) -> i64;

/// A callback of bpf_for_each_map_elem: the map, an element's key and value, and state; 1 ends the
/// loop.
type Element<K, V, T> = unsafe extern "C" fn(*mut c_void, *mut K, *mut V, *mut T) -> i64;

/// Calls `turn` `n` times.
#[inline(always)]
pub fn repeat<T>(n: u32, turn: Turn, state: &mut T) {
    // SAFETY: the callback has the signature the helper wants, and `state` outlives the call;
    // that the callback takes it for what it is, is up to the caller.
    unsafe { bpf_loop(n, turn as *mut c_void, core::ptr::from_mut(state).cast(), 0) };
}

/// Calls `each` for every stake.
#[inline(always)]
pub fn stake<T>(each: Element<StakeKey, Stake, T>, state: &mut T) {
    element(&STAKES, each, state);
}

/// Calls `each` for every cover.
#[inline(always)]
pub fn cover<T>(each: Element<CoverKey, u64, T>, state: &mut T) {
    element(&COVERS, each, state);
}

#[inline(always)]
fn element<K, V, T>(map: &'static HashMap<K, V>, each: Element<K, V, T>, state: &mut T) {
    // SAFETY: the callback has the signature that the helper wants for this map and this state, which
    // outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            core::ptr::from_ref(map).cast_mut().cast(),
            each as *mut c_void,
            core::ptr::from_mut(state).cast(),
            0,
        )
    };
}

/// Zero, read from a global that is never written: the verifier takes it for any number, so that
/// every turn of a loop looks the same to it and it need not follow the count.
#[inline(always)]
pub fn zero() -> u64 {
    // SAFETY: a global of this object.
    unsafe { core::ptr::read_volatile(&raw const ZERO) }
}

/// Writes a number so that it is any number to the verifier when it is read again, and every turn of a
/// loop that keeps it is alike.
#[inline(always)]
pub fn keep(place: &mut u64, number: u64) {
    let halves = core::ptr::from_mut(place).cast::<u32>();
    // SAFETY: the two halves of a word that may be written.
    unsafe {
        halves.write_volatile(number as u32);
        halves.add(1).write_volatile((number >> 32) as u32);
    }
}
