//! What userspace found out about this kernel and was asked for.

use lease_trace_common::config::Config;

/// Set by userspace before loading; constant for the verifier.
#[unsafe(no_mangle)]
pub static CONFIG: Config = {
    // SAFETY: `Config` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// Reads a field of [`CONFIG`]. Volatile keeps the compiler from folding in the blank value that is in the
/// object.
#[inline(always)]
pub fn constant(field: &'static u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(field) }
}

/// Whether a cross-check was asked for; known when the programs are checked.
#[inline(always)]
pub fn is_cross_checked() -> bool {
    constant(&CONFIG.cross_check) != 0
}

/// Whether there is none, and `struct page` is as it is known.
#[inline(always)]
pub fn is_plain() -> bool {
    constant(&CONFIG.plain) != 0
}
