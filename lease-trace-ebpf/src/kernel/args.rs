//! Where a program finds what its function was called with, and what that returned.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_get_func_arg, bpf_get_func_ret},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use super::{
    call::argument,
    pointer::{Pointer, Probed, Typed},
};

/// Where a program finds what it was called with.
pub trait Registers {
    type Pointer: Pointer;

    fn parameter(&self, n: u32) -> u64;

    /// A parameter that is a number.
    fn number(&self, n: u32) -> u64;

    /// A parameter that points to a structure.
    fn pointer(&self, n: u32) -> Self::Pointer;
}

/// Where a program finds what the function returned.
pub trait Returned {
    fn returned(&self) -> i64;
    fn raw(&self) -> *mut c_void;
}

/// A program behind a trampoline has the parameters in its context, at the return of the function
/// as they were at its entry.
macro_rules! behind_trampoline {
    ($($context:ty),*) => {$(
        impl Registers for $context {
            type Pointer = Typed;

            #[inline(always)]
            fn number(&self, n: u32) -> u64 {
                // SAFETY: the context begins with the parameters, a word each.
                unsafe { self.as_ptr().cast::<u64>().add(n as usize).read_volatile() }
            }

            #[inline(always)]
            fn pointer(&self, n: u32) -> Typed {
                Typed(self.number(n))
            }

            #[inline(always)]
            fn parameter(&self, n: u32) -> u64 {
                let mut value = 0;
                // SAFETY: the helper checks `n` and writes one word. Reading the context instead is
                // refused for some pointer types before 7.x.
                unsafe { bpf_get_func_arg(self.as_ptr(), n, &raw mut value) };
                value
            }
        }
    )*};
}

behind_trampoline!(FEntryContext, FExitContext);

/// What a call that may be denied was called with. An LSM program and fmod_ret have the same context:
/// the arguments, a word each.
#[derive(Clone, Copy)]
pub struct Decision(pub *mut c_void);

impl Decision {
    /// An argument that is a number.
    #[inline(always)]
    pub fn number(self, n: usize) -> u64 {
        // SAFETY: the context begins with the arguments of the function, which the verifier knows.
        unsafe { self.0.cast::<u64>().add(n).read_volatile() }
    }

    /// An argument that points to a structure.
    #[inline(always)]
    pub fn pointer(self, n: usize) -> Typed {
        Typed(self.number(n))
    }

    /// An argument of a system call, whose function has the registers as its only one
    /// (arch/x86/include/asm/syscall_wrapper.h).
    #[inline(always)]
    pub fn argument(self, n: u32) -> u64 {
        argument(self.pointer(0), n)
    }
}

impl Registers for ProbeContext {
    type Pointer = Probed;

    #[inline(always)]
    fn number(&self, n: u32) -> u64 {
        self.parameter(n)
    }

    #[inline(always)]
    fn pointer(&self, n: u32) -> Probed {
        Probed(self.parameter(n))
    }

    #[inline(always)]
    fn parameter(&self, n: u32) -> u64 {
        ProbeContext::arg::<u64>(self, n as usize).unwrap_or(0)
    }
}

impl Returned for FExitContext {
    #[inline(always)]
    fn returned(&self) -> i64 {
        let mut value = 0;
        // SAFETY: the helper writes one word.
        unsafe { bpf_get_func_ret(self.as_ptr(), &raw mut value) };
        value as i64
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.as_ptr()
    }
}

impl Returned for RetProbeContext {
    #[inline(always)]
    fn returned(&self) -> i64 {
        self.ret::<u64>() as i64
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.as_ptr()
    }
}
