//! Who keeps pins: found by the files that stand for them, in every task's descriptors and mappings, and
//! looked into page by page when userspace asks for one.
//!
//! Nothing is locked: what is read may change meanwhile. Whoever reads looks twice.

use core::ffi::c_void;

use aya_ebpf::{macros::map, maps::Array};
use lease_trace_common::survey::{PARTS, Part, Survey, Walk};

mod arrays;
mod files;
mod regions;
mod rings;
mod walk;

/// Set by userspace before loading; constant for the verifier.
#[unsafe(no_mangle)]
pub static SURVEY: Survey = {
    // SAFETY: `Survey` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// The one walk there is.
#[map]
static WALK: Array<Walk> = Array::with_max_entries(1, 0);

/// What it has found.
#[map]
static FOUND: Array<Part> = Array::with_max_entries(PARTS, 0);

/// Reads an offset of [`SURVEY`]; volatile keeps the compiler from folding in the blank value.
macro_rules! told {
    ($($field:ident).+ $([$n:ident])?) => {{
        // SAFETY: a global of this object, which nobody writes.
        unsafe { core::ptr::read_volatile(&raw const $crate::owners::SURVEY.$($field).+ $([$n])?) }
    }};
}

/// The same of what a kernel may not have: `None` then.
macro_rules! told_if_any {
    ($($field:ident).+) => {{
        let offset: u32 = $crate::owners::told!($($field).+);
        (offset != lease_trace_common::config::ABSENT).then_some(offset)
    }};
}
use {told, told_if_any};

macro_rules! on_walk {
    ($(#[$doc:meta])* $section:literal, $name:ident, $body:path) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name(ctx: *mut c_void) -> i32 {
            $body(ctx.cast());
            0
        }
    };
}

on_walk!(
    /// `bpf_iter_task_file`: every open file of every task.
    "iter/task_file", owners_of_files, files::task_file
);

on_walk!(
    /// `bpf_iter_task_vma`: every mapping of every task.
    "iter/task_vma", owners_of_mappings, files::task_vma
);
