//! Kernel memory by the helper that checks an address.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// What is at an address that the kernel or `memory::address` gave, of any size: a key, a part of a text.
#[inline(always)]
pub fn value<T>(address: u64) -> Option<T> {
    // SAFETY: bpf_probe_read_kernel checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(address as *const T).ok() }
}
