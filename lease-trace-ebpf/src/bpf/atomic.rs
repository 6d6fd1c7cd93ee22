//! The atomic operations of BPF (`-C target-cpu=v3`), which `core`'s atomic types do not offer on
//! this target. Each returns the old value.

use core::{
    arch::asm,
    intrinsics::{self, AtomicOrdering},
};

/// `BPF_ATOMIC | BPF_ADD | BPF_FETCH`.
///
/// # Safety
/// `word` points to a live, aligned map value or global.
#[inline(always)]
pub unsafe fn add(word: *mut u64, n: u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, n) }
}

/// Subtraction, as an addition of the two's complement.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn sub(word: *mut u64, n: u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { add(word, n.wrapping_neg()) }
}

/// `BPF_ATOMIC | BPF_OR | BPF_FETCH`.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { intrinsics::atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) }
}

/// `BPF_ATOMIC | BPF_AND | BPF_FETCH`.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn and(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { intrinsics::atomic_and::<u64, u64, { AtomicOrdering::SeqCst }>(word, bits) }
}

/// `BPF_ATOMIC | BPF_XCHG`.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn swap(word: *mut u64, new: u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { intrinsics::atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(word, new) }
}

/// `BPF_ATOMIC | BPF_CMPXCHG`: whether `word` was `old` and is now `new`.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn swap_if(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller guarantees the pointer.
    let (found, _) = unsafe {
        intrinsics::atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            word, old, new,
        )
    };
    let seen: u64;
    // Else the compiler makes a number of whether it was swapped, to be compared again.
    // SAFETY: moves a register.
    unsafe { asm!("{} = {}", out(reg) seen, in(reg) found, options(pure, nomem, nostack)) };
    seen == old
}

/// A plain load that the compiler may not tear or repeat.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn load(word: *const u64) -> u64 {
    // SAFETY: the caller guarantees the pointer.
    unsafe { core::ptr::read_volatile(word) }
}
