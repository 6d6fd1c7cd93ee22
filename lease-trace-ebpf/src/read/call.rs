//! System calls, as the registers tell them, and io_uring's own.

use lease_trace_common::{config::ABSENT, context::Call};

use super::{at, pointer};

/// Argument `n` (from zero, five at most) of a 64-bit system call whose registers are at `regs`
/// (arch/x86/include/asm/syscall_wrapper.h).
#[inline(always)]
pub fn argument(regs: u64, n: u32) -> u64 {
    let offset = match n {
        0 => offset!(regs_first),
        1 => offset!(regs_second),
        2 => offset!(regs_third),
        3 => offset!(regs_fourth),
        _ => offset!(regs_fifth),
    };
    at(regs, offset).unwrap_or(0)
}

/// The system call number and second argument in user registers at `regs`; a 32-bit call
/// (`is_compat`) has its arguments in other registers.
#[inline(always)]
pub fn syscall(regs: u64, is_compat: bool) -> (i64, u32) {
    let second = if is_compat {
        at::<u64>(regs, offset!(regs_second_compat))
    } else {
        at::<u64>(regs, offset!(regs_second))
    };
    (
        at(regs, offset!(regs_syscall)).unwrap_or(-1),
        second.unwrap_or(0) as u32,
    )
}

/// The system call in user registers at `regs`, as far as it tells which file it works on.
#[inline(always)]
pub fn call(regs: u64, is_compat: bool) -> Call {
    let (first, second, fourth) = if is_compat {
        (
            offset!(regs_first_compat),
            offset!(regs_second_compat),
            offset!(regs_second),
        )
    } else {
        (
            offset!(regs_first),
            offset!(regs_second),
            offset!(regs_fourth),
        )
    };
    Call {
        number: at(regs, offset!(regs_syscall)).unwrap_or(-1),
        compat: is_compat,
        first: at(regs, first).unwrap_or(0),
        second: at(regs, second).unwrap_or(0),
        fourth: at(regs, fourth).unwrap_or(0),
    }
}

/// `io_ring_ctx.mm_account` of the ring whose `exit_work` this is.
#[inline(always)]
pub fn ring_mm(work: u64) -> Option<u64> {
    let offset = offset!(ring_exit_work);
    if offset == ABSENT {
        return None;
    }
    pointer(work - u64::from(offset), offset!(ring_mm))
}
