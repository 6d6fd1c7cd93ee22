//! What `lease-trace pins` runs in the kernel. An object of its own: it is loaded for a moment, beside
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

mod bpf;
mod kernel;
mod owners;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
