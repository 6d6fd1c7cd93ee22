//! System calls, as the registers tell them, and io_uring's own.

use lease_trace_common::context::SystemCall;

use super::{
    memory::pointer,
    pointer::{Pointer as _, Typed},
};

/// Argument `n` (from zero, five at most) of a 64-bit system call, by its registers.
#[inline(always)]
pub fn argument(regs: Typed, n: u32) -> u64 {
    let offset = match n {
        0 => offset!(regs_first),
        1 => offset!(regs_second),
        2 => offset!(regs_third),
        3 => offset!(regs_fourth),
        _ => offset!(regs_fifth),
    };
    regs.word(offset)
}

/// The system call number and second argument in user registers; a 32-bit call (`is_compat`) has its
/// arguments in other registers.
#[inline(always)]
pub fn syscall(regs: Typed, is_compat: bool) -> (i64, u32) {
    let second = if is_compat {
        regs.word(offset!(regs_second_compat))
    } else {
        regs.word(offset!(regs_second))
    };
    (number(regs), second as u32)
}

/// The kernel keeps the whole register that the program had the number in, but reads an int.
#[inline(always)]
fn number(regs: Typed) -> i64 {
    i64::from(regs.word(offset!(regs_syscall)) as i32)
}

/// The system call in user registers, as far as it tells which file it works on.
#[inline(always)]
pub fn call(regs: Typed, is_compat: bool) -> SystemCall {
    let (first, second, fourth) = if is_compat {
        (
            regs.word(offset!(regs_first_compat)),
            regs.word(offset!(regs_second_compat)),
            regs.word(offset!(regs_second)),
        )
    } else {
        (
            regs.word(offset!(regs_first)),
            regs.word(offset!(regs_second)),
            regs.word(offset!(regs_fourth)),
        )
    };
    SystemCall {
        number: number(regs),
        compat: is_compat,
        first,
        second,
        fourth,
    }
}

/// `io_ring_ctx.mm_account` of the ring whose `exit_work` this is.
#[inline(always)]
pub fn ring_mm(work: u64) -> Option<u64> {
    ring_account(work - u64::from(offset_if_any!(ring_exit_work)?))
}

/// `io_ring_ctx.mm_account`: the address space that a ring's memory is accounted to.
#[inline(always)]
pub fn ring_account(ring: u64) -> Option<u64> {
    pointer(ring, offset_if_any!(ring_mm)?)
}

/// `seq_file.count`: bytes written and not yet read.
#[inline(always)]
pub fn seq_count(seq: Typed) -> u64 {
    seq.word(offset!(seq_count))
}
