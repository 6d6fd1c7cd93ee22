//! Who runs the program, and when, as helpers say it.

use core::arch::asm;

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_this_cpu_ptr,
};
use lease_trace_common::config::{ABSENT, PREEMPT_COUNT};

use super::config::{CONFIG, constant};

/// CLOCK_BOOTTIME in ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Thread group id and thread id, packed as the kernel does.
#[inline(always)]
pub fn pid_tgid() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Address of the current `task_struct`.
#[inline(always)]
pub fn address() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// Thread group id.
#[inline(always)]
pub fn tgid() -> u32 {
    (pid_tgid() >> 32) as u32
}

/// The current task's user, as the initial namespace has it.
#[inline(always)]
pub fn uid() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_uid_gid() as u32 }
}

/// The CPU's number.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// Whether an interrupt runs on the current task's back: what is called then is not the task's doing. False
/// where the kernel's BTF does not say how to tell.
#[inline(always)]
pub fn is_interrupted() -> bool {
    /// include/linux/preempt.h: one soft interrupt is served; the number of hard ones, and of NMIs.
    const SOFT: u32 = 1 << 8;
    const HARD_SHIFT: u32 = 16;
    const NMI_SHIFT: u32 = 20;
    const NUMBER: u32 = 0xf;
    let offset = constant(&CONFIG.preempt_count);
    if offset == ABSENT {
        return false;
    }
    let variable: *const core::ffi::c_void;
    // SAFETY: moves a number to a register, for which the loader puts in a variable of the kernel's; it
    // is there, and the helper returns this processor's, of which a word is read.
    let count = unsafe {
        asm!("{} = {} ll", out(reg) variable, const PREEMPT_COUNT, options(pure, nomem, nostack));
        let here = bpf_this_cpu_ptr(variable);
        core::ptr::read_volatile(here.byte_add(offset as usize).cast::<u32>())
    };
    // A breakpoint, by which some kprobes run, is an NMI and a hard interrupt by this count.
    let by_nmi = count >> NMI_SHIFT & NUMBER;
    count & SOFT != 0 || count >> HARD_SHIFT & NUMBER > by_nmi
}
