//! Pointers of which the verifier knows the type, and such as it takes for numbers. Of the former a
//! field is read by one instruction, of the latter by a function that costs twenty, or sixty where it
//! has to ask a helper. A hook has typed pointers from fentry, and numbers from a kprobe; what must be
//! fast is written for both.

use core::arch::asm;

use super::memory::{at, value};

/// The address of something in the kernel.
pub trait Pointer: Copy {
    /// The word at a constant offset.
    fn word(self, offset: u32) -> u64;

    /// What the pointer at a constant offset points to.
    fn follow(self, offset: u32) -> Self;

    /// The lower half of the address, as a number.
    fn low(self) -> u32;

    /// Whether it is this address.
    fn is(self, address: u64) -> bool;

    /// The whole address, as a number.
    fn number(self) -> u64;

    /// The pointer itself, for a function of the kernel's that takes either.
    fn raw(self) -> u64;
}

/// An argument of fentry, or what was reached from one: the verifier knows what it points to, and
/// a fault reads as zero.
#[derive(Clone, Copy)]
pub struct Typed(pub u64);

/// An address as a number.
#[derive(Clone, Copy)]
pub struct Probed(pub u64);

impl Typed {
    /// The 32 bits at a constant offset.
    #[inline(always)]
    pub fn half(self, offset: u32) -> u32 {
        // SAFETY: as in `word`.
        unsafe { core::ptr::read_volatile((self.0 + u64::from(offset)) as *const u32) }
    }
}

impl Pointer for Typed {
    #[inline(always)]
    fn word(self, offset: u32) -> u64 {
        // SAFETY: the verifier accepts this for a pointer whose type has such a field only, and the
        // kernel reads zero where the address is bad.
        unsafe { core::ptr::read_volatile((self.0 + u64::from(offset)) as *const u64) }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.word(offset))
    }

    #[inline(always)]
    fn low(self) -> u32 {
        let low: u32;
        // The verifier forbids arithmetic on the pointer, but not to copy half of it: the half is a
        // number.
        // SAFETY: moves a register.
        unsafe {
            asm!("{} = {}", out(wreg) low, in(wreg) self.0 as u32, options(pure, nomem, nostack));
        }
        low
    }

    #[inline(always)]
    fn is(self, address: u64) -> bool {
        self.0 == address
    }

    #[inline(always)]
    fn number(self) -> u64 {
        address_of(self.0)
    }

    #[inline(always)]
    fn raw(self) -> u64 {
        self.0
    }
}

impl Pointer for Probed {
    #[inline(always)]
    fn word(self, offset: u32) -> u64 {
        at(self.0, offset)
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.word(offset))
    }

    #[inline(always)]
    fn low(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    fn is(self, address: u64) -> bool {
        self.0 == address
    }

    #[inline(always)]
    fn number(self) -> u64 {
        self.0
    }

    #[inline(always)]
    fn raw(self) -> u64 {
        self.0
    }
}

/// A typed pointer as a number: read back from where it is spilled by a helper, which does not hand
/// types on.
#[inline(always)]
fn address_of(pointer: u64) -> u64 {
    value::<u64>(&raw const pointer as u64).unwrap_or(0)
}
