//! What the programs are told, and the maps by which they are asked and answer.

use aya_ebpf::{macros::map, maps::Array};
use lease_trace_common::survey::{PARTS, Part, Survey, Walk};

/// Set by userspace before loading; constant for the verifier.
#[unsafe(no_mangle)]
pub static SURVEY: Survey = {
    // SAFETY: `Survey` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// The one walk there is.
#[map]
pub static WALK: Array<Walk> = Array::with_max_entries(1, 0);

/// What it has found.
#[map]
pub static FOUND: Array<Part> = Array::with_max_entries(PARTS, 0);

/// Reads an offset of [`SURVEY`]; volatile keeps the compiler from folding in the blank value.
macro_rules! told {
    ($($field:ident).+ $([$n:ident])?) => {{
        // SAFETY: a global of this object, which nobody writes.
        unsafe { core::ptr::read_volatile(&raw const $crate::owners::told::SURVEY.$($field).+ $([$n])?) }
    }};
}

/// The same of what a kernel may not have: `None` then.
macro_rules! told_if_any {
    ($($field:ident).+) => {{
        let offset: u32 = $crate::owners::told::told!($($field).+);
        (offset != lease_trace_common::config::ABSENT).then_some(offset)
    }};
}
pub(super) use {told, told_if_any};
