//! The system calls that unmap, looked at before they do anything: which leased file they would let
//! go of, and whether its last reference is a mapping there.
//!
//! What slips through is still seen when the lease ends.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use lease_trace_common::cause::Cause;

use crate::{
    bpf::loops,
    judge::{before::tally::Tally, moments, verdicts},
    kernel::{File, Vma, args::Decision},
};

/// Mappings and gaps of one page looked at in one call. A call over more goes through: the references that it
/// drops are then not all counted. A quarter of what a process may have (`vm.max_map_count`, by default).
const MAX_MAPPINGS: u32 = 1 << 14;
const PAGE: u64 = 4096;

/// munmap(address, length)
#[inline(always)]
pub fn munmap(call: Decision) -> i64 {
    if verdicts::idle(Cause::Munmap) {
        return 0;
    }
    unmap(call, call.argument(0), call.argument(1))
}

/// mmap(address, length, protection, flags, fd, offset): a fixed mapping drops what it covers.
#[inline(always)]
pub fn mmap(call: Decision) -> i64 {
    const FIXED: u64 = 0x10;
    const NOREPLACE: u64 = 0x10_0000;
    if verdicts::idle(Cause::Munmap) || call.argument(3) & (FIXED | NOREPLACE) != FIXED {
        return 0;
    }
    unmap(call, call.argument(0), call.argument(1))
}

/// mremap(old, old_length, new_length, flags, new): to become shorter drops the tail, which may be
/// other mappings; a fixed one drops what it moves over. What is moved keeps its file.
#[inline(always)]
pub fn mremap(call: Decision) -> i64 {
    const FIXED: u64 = 2;
    if verdicts::idle(Cause::Munmap) {
        return 0;
    }
    let (old, old_length) = (call.argument(0), call.argument(1));
    let new_length = call.argument(2);
    let kept = new_length.div_ceil(PAGE) * PAGE;
    if kept < old_length {
        let denied = unmap(call, old + kept, old_length - kept);
        if denied != 0 {
            return denied;
        }
    }
    if call.argument(3) & FIXED == 0 {
        return 0;
    }
    unmap(call, call.argument(4), new_length)
}

/// These addresses are about to be unmapped.
#[inline(always)]
fn unmap(call: Decision, address: u64, length: u64) -> i64 {
    match mappings_let_go(address, length) {
        0 => 0,
        file => moments::before_release(call, File(file as u64), Cause::Munmap),
    }
}

struct Span {
    at: u64,
    end: u64,
    tally: Tally,
    /// The file that was found to be let go.
    file: u64,
    start: u64,
    /// What the mapping at `at` says.
    vma_start: u64,
    vma_end: u64,
    vma_file: u64,
}

/// The first leased file that unmapping these addresses would let go of; 0 for none. A global function, verified
/// separately.
#[unsafe(no_mangle)]
extern "C" fn mappings_let_go(address: u64, length: u64) -> i64 {
    if !address.is_multiple_of(PAGE) || length == 0 {
        return 0;
    }
    let mut span = Span {
        at: address,
        end: address + length.div_ceil(PAGE) * PAGE,
        tally: Tally::new(),
        file: loops::zero(),
        start: address,
        vma_start: 0,
        vma_end: 0,
        vma_file: 0,
    };
    loops::repeat(MAX_MAPPINGS, one_mapping, &mut span);
    span.file as i64
}

unsafe extern "C" fn one_mapping(_index: u64, span: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `mappings_let_go` gave it.
    let span = unsafe { &mut *span.cast::<Span>() };
    if span.at >= span.end {
        return 1;
    }
    span.vma_end = 0;
    span.vma_file = 0;
    // SAFETY: the task is what the helper returned; `in_vma` has the signature wanted.
    unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            span.at,
            in_vma as *mut c_void,
            core::ptr::from_mut(span).cast(),
            0,
        )
    };
    if span.vma_end <= span.at {
        let next = span.at + PAGE;
        loops::keep(&mut span.at, next);
        return 0;
    }
    let whole = span.vma_start >= span.start && span.vma_end <= span.end;
    loops::keep(&mut span.at, span.vma_end);
    if !whole || span.vma_file == 0 {
        return 0;
    }
    if span.tally.is_last(File(span.vma_file)) {
        span.file = span.vma_file;
        return 1;
    }
    0
}

unsafe extern "C" fn in_vma(_task: *mut c_void, vma: *mut c_void, span: *mut c_void) -> i64 {
    let vma = Vma::given(vma);
    // SAFETY: bpf_find_vma hands over what `one_mapping` gave it.
    let span = unsafe { &mut *span.cast::<Span>() };
    span.vma_start = vma.start();
    span.vma_end = vma.end();
    span.vma_file = vma.file().map_or(0, |file| file.0);
    0
}
