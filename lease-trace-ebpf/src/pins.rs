//! What `lease-trace pins` and `doctor --check` run in the kernel. An object of its own: it is loaded for a moment, beside
//! whatever else is in place, and what a monitor loads does not grow by it.
#![no_std]
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    internal_features,
    reason = "of `bpf` and `kernel`, which are the other object's, too, this one needs a part"
)]
#![feature(asm_experimental_arch, core_intrinsics)]

use core::ffi::c_void;

use owners::{cached, files};

mod bpf;
mod kernel;
mod owners;

macro_rules! on_walk {
    ($(#[$doc:meta])* $section:literal, $name:ident, $body:path) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name(ctx: *mut c_void) -> i32 {
            $body(ctx.cast())
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

on_walk!(
    /// `bpf_iter_bpf_map_elem`: every inode that is asked about.
    "iter/bpf_map_elem", pins_of_inodes, cached::inode
);

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
