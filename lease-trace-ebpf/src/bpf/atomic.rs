//! The atomic operations of BPF (`-C target-cpu=v3`), which `core`'s atomic types do not offer on
//! this target.

use core::{
    arch::asm,
    intrinsics::{self, AtomicOrdering},
};

use lease_trace_common::word::Word;

use crate::bpf::loops;

/// A word of a map or of a global. Changes that others may be faster with are functions of their own, see
/// `state::words`.
#[derive(Clone, Copy)]
pub struct At(*mut u64);

impl At {
    /// # Safety
    /// `word` points to a map value or a global, aligned, and is used within this run of the program
    /// only: so long the kernel keeps the memory, though it may become another record's.
    #[inline(always)]
    pub const unsafe fn new(word: *mut u64) -> Self {
        Self(word)
    }

    /// Where it is.
    #[inline(always)]
    pub const fn pointer(self) -> *mut u64 {
        self.0
    }

    /// See [`InPlace`].
    #[inline(always)]
    pub const fn in_place<const TRIES: u64>(self) -> InPlace<TRIES> {
        InPlace(self.0)
    }
}

/// This number in another register, where the compiler does not know it.
#[inline(always)]
fn moved(n: u64) -> u64 {
    let there: u64;
    // SAFETY: moves a register.
    unsafe { asm!("{} = {}", out(reg) there, in(reg) n, options(pure, nomem, nostack)) };
    there
}

/// This pointer, of which the compiler does not know how much there is behind it.
#[inline(always)]
#[expect(
    clippy::pointers_in_nomem_asm_block,
    reason = "nothing is read or written through it"
)]
pub fn unknown_pointer<T>(pointer: *mut T) -> *mut T {
    let there: *mut T;
    // SAFETY: moves a register.
    unsafe { asm!("{} = {}", out(reg) there, in(reg) pointer, options(pure, nomem, nostack)) };
    there
}

/// The same word, whose changes are made in place, without a call: calls go eight deep at most.
#[derive(Clone, Copy)]
pub struct InPlace<const TRIES: u64>(*mut u64);

impl<const TRIES: u64> Word for InPlace<TRIES> {
    const TRIES: u64 = TRIES;

    /// The compiler may not tear or repeat it.
    #[inline(always)]
    fn load(self) -> u64 {
        // SAFETY: `At::new` guarantees the pointer.
        unsafe { core::ptr::read_volatile(self.0) }
    }

    /// `BPF_ATOMIC | BPF_CMPXCHG`.
    #[inline(always)]
    fn swap_if(self, old: u64, new: u64) -> bool {
        // SAFETY: `At::new` guarantees the pointer.
        let (found, _) = unsafe {
            intrinsics::atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                self.0, old, new,
            )
        };
        // Else the compiler makes a number of whether it was swapped, to be compared again.
        moved(found) == old
    }

    /// `BPF_ATOMIC | BPF_ADD | BPF_FETCH`.
    #[inline(always)]
    fn add(self, n: u64) -> u64 {
        // SAFETY: `At::new` guarantees the pointer.
        unsafe { intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(self.0, n) }
    }

    #[inline(always)]
    fn unknown(self, n: u64) -> u64 {
        n.wrapping_add(loops::zero())
    }

    #[inline(always)]
    fn opaque(self, n: u64) -> u64 {
        moved(n)
    }
}
