//! The system calls that can drop the last reference to a leased file, looked at before they do
//! anything: which files they would let go of, and whether that is the last reference.
//!
//! Another thread can take or drop a reference between the look and the call. What slips through
//! is still seen when the lease ends.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf};
use lease_trace_common::cause::Cause;

use crate::{
    enforce, lease,
    maps::PINNED,
    read::{self, File, Vma},
    tally, task,
};

/// Descriptors looked at in one call.
const MAX_DESCRIPTORS: u32 = 1 << 20;
/// Mappings and gaps of one page looked at in one call.
const MAX_MAPPINGS: u32 = 1 << 14;
const PAGE: u64 = 4096;

/// Nothing can be in breach, or nothing is denied here.
#[inline(always)]
fn idle(cause: Cause) -> bool {
    // SAFETY: a global of this object.
    (unsafe { crate::atomic::load(&raw const PINNED) }) == 0 || !enforce::denies(cause)
}

/// close(fd)
#[inline(always)]
pub fn close(ctx: *mut c_void, regs: u64) -> i32 {
    if idle(Cause::Close) {
        return 0;
    }
    drop_descriptor(ctx, read::argument(regs, 0) as u32, Cause::Close)
}

/// dup2(old, new) and dup3(old, new, flags)
#[inline(always)]
pub fn dup2(ctx: *mut c_void, regs: u64) -> i32 {
    if idle(Cause::Dup2) {
        return 0;
    }
    let (old, new) = (
        read::argument(regs, 0) as u32,
        read::argument(regs, 1) as u32,
    );
    if old == new || task::current().file(old).is_none() {
        return 0;
    }
    drop_descriptor(ctx, new, Cause::Dup2)
}

#[inline(always)]
fn drop_descriptor(ctx: *mut c_void, fd: u32, cause: Cause) -> i32 {
    match task::current().file(fd) {
        Some(file) if file.references() == 1 => enforce::release(ctx, file, cause),
        _ => 0,
    }
}

struct Range {
    first: u64,
    last: u64,
    /// The file whose references are counted, or that was found to be let go.
    file: u64,
    references: u64,
}

/// close_range(first, last, flags)
#[inline(always)]
pub fn close_range(ctx: *mut c_void, regs: u64) -> i32 {
    const UNSHARE: u64 = 2;
    const CLOEXEC: u64 = 4;
    if idle(Cause::CloseRange) {
        return 0;
    }
    let flags = read::argument(regs, 2);
    // With an unshared table the descriptors stay open in the others'.
    if flags & CLOEXEC != 0 || (flags & UNSHARE != 0 && task::current().shares_descriptors()) {
        return 0;
    }
    let (first, last) = (
        read::argument(regs, 0) as u32,
        read::argument(regs, 1) as u32,
    );
    match descriptors_let_go(u64::from(first), u64::from(last)) {
        0 => 0,
        file => enforce::release(ctx, File(file as u64), Cause::CloseRange),
    }
}

/// The first leased file that closing these descriptors would let go of, and that matters to
/// somebody's pins; 0 for none. A function of its own for the verifier.
#[unsafe(no_mangle)]
extern "C" fn descriptors_let_go(first: u64, last: u64) -> i64 {
    let end = u64::from(task::current().descriptors());
    if first >= end || first > last {
        return 0;
    }
    let last = if last >= end { end - 1 } else { last };
    let mut range = Range {
        first,
        last,
        file: 0,
        references: tally::zero(),
    };
    tally::repeat(length(&range), one_descriptor, &mut range);
    range.file as i64
}

#[inline(always)]
fn length(range: &Range) -> u32 {
    let length = range.last - range.first + 1;
    if length > u64::from(MAX_DESCRIPTORS) {
        MAX_DESCRIPTORS
    } else {
        length as u32
    }
}

unsafe extern "C" fn one_descriptor(index: u64, range: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `descriptors_let_go` gave it.
    let range = unsafe { &mut *range.cast::<Range>() };
    let Some(file) = task::current().file((range.first + index) as u32) else {
        return 0;
    };
    if !enforce::would_breach(file) {
        return 0;
    }
    let mut same = Range {
        first: range.first,
        last: range.last,
        file: file.0,
        references: tally::zero(),
    };
    tally::repeat(length(&same), same_file, &mut same);
    if same.references as i64 == file.references() {
        range.file = file.0;
        return 1;
    }
    0
}

unsafe extern "C" fn same_file(index: u64, range: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `one_descriptor` gave it.
    let range = unsafe { &mut *range.cast::<Range>() };
    if task::current().file((range.first + index) as u32) == Some(File(range.file)) {
        range.references += 1;
    }
    0
}

/// munmap(address, length)
#[inline(always)]
pub fn munmap(ctx: *mut c_void, regs: u64) -> i32 {
    if idle(Cause::Munmap) {
        return 0;
    }
    match mappings_let_go(read::argument(regs, 0), read::argument(regs, 1)) {
        0 => 0,
        file => enforce::release(ctx, File(file as u64), Cause::Munmap),
    }
}

struct Span {
    at: u64,
    end: u64,
    /// The leased file met first.
    file: u64,
    references: u64,
    start: u64,
    /// What the mapping at `at` says.
    vma_start: u64,
    vma_end: u64,
    vma_file: u64,
}

/// The leased file that unmapping these addresses would let go of; 0 for none. Of several files
/// the first is looked at. A function of its own for the verifier.
#[unsafe(no_mangle)]
extern "C" fn mappings_let_go(address: u64, length: u64) -> i64 {
    if !address.is_multiple_of(PAGE) || length == 0 {
        return 0;
    }
    let mut span = Span {
        at: address,
        end: address + length.div_ceil(PAGE) * PAGE,
        file: 0,
        references: tally::zero(),
        start: address,
        vma_start: 0,
        vma_end: 0,
        vma_file: 0,
    };
    tally::repeat(MAX_MAPPINGS, one_mapping, &mut span);
    if span.file != 0 && span.references as i64 == File(span.file).references() {
        span.file as i64
    } else {
        0
    }
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
        span.at += PAGE;
        return 0;
    }
    let whole = span.vma_start >= span.start && span.vma_end <= span.end;
    span.at = span.vma_end;
    if !whole || span.vma_file == 0 {
        return 0;
    }
    if span.file == 0 && lease::find(File(span.vma_file)).is_some() {
        span.file = span.vma_file;
    }
    if span.file == span.vma_file {
        span.references += 1;
    }
    0
}

unsafe extern "C" fn in_vma(_task: *mut c_void, vma: *mut c_void, span: *mut c_void) -> i64 {
    let vma = Vma(vma as u64);
    // SAFETY: bpf_find_vma hands over what `one_mapping` gave it.
    let span = unsafe { &mut *span.cast::<Span>() };
    span.vma_start = vma.start();
    span.vma_end = vma.end();
    span.vma_file = vma.file().map_or(0, |file| file.0);
    0
}
