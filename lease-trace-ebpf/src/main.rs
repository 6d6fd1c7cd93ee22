//! What runs in the kernel. `hooks` has every attach point; docs/architecture.md says what the directories
//! are and which may import which.
#![no_std]
#![no_main]
#![allow(
    internal_features,
    reason = "BPF atomics that return the old value are intrinsics only"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, a record would go through the 512 bytes of stack"
)]
#![feature(asm_experimental_arch, core_intrinsics)]

mod bpf;
mod effects;
mod hooks;
mod judge;
mod kernel;
mod show;
mod state;
mod survey;
mod track;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
