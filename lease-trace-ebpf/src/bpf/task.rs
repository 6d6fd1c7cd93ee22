//! Who runs the program, and when, as helpers say it.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns};

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

/// Thread group id.
#[inline(always)]
pub fn tgid() -> u32 {
    (pid_tgid() >> 32) as u32
}
