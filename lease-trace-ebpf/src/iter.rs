//! Walks over every task's descriptors and mappings: the leases that exist already, and everybody
//! who keeps one alive. Each find is written to the reader as one record; with `CONFIG.adopt` it
//! is also entered into the maps.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use lease_trace_common::event::{Found, MAPPING};

use crate::{
    lease,
    maps::CONFIG,
    read::{self, File, TaskPtr, Vma},
};

/// Start of `struct bpf_iter__task_file` (task, fd, file follow) and of
/// `struct bpf_iter__task_vma` (task, vma follow; kernel/bpf/task_iter.c).
#[repr(C)]
pub struct Context {
    meta: *mut Meta,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// One descriptor of one task.
#[inline(always)]
pub fn task_file(ctx: *const Context) {
    let (task, fd, file) = (
        read::word(ctx as u64, 1),
        read::word(ctx as u64, 2),
        read::word(ctx as u64, 3),
    );
    if let (Some(task), Some(file)) = (task, file) {
        found(ctx, TaskPtr(task), fd.unwrap_or(0) as u32, File(file));
    }
}

/// One mapping of one task.
#[inline(always)]
pub fn task_vma(ctx: *const Context) {
    let (task, vma) = (read::word(ctx as u64, 1), read::word(ctx as u64, 2));
    if let (Some(task), Some(vma)) = (task, vma)
        && let Some(file) = Vma(vma).file()
    {
        found(ctx, TaskPtr(task), MAPPING, file);
    }
}

#[inline(always)]
fn found(ctx: *const Context, who: TaskPtr, fd: u32, file: File) {
    let Some(lease) = lease::find(file) else {
        return;
    };
    if read::constant(&CONFIG.adopt) != 0 {
        lease::adopt(file, lease, who);
    }
    let record = Found {
        lease: lease.0,
        tgid: who.tgid(),
        fd,
        comm: who.comm(),
    };
    // SAFETY: the kernel hands over this context, and `seq` is the iterator's own sequence file;
    // the record is plain data.
    unsafe {
        bpf_seq_write(
            (*(*ctx).meta).seq.cast(),
            (&raw const record).cast_mut().cast(),
            size_of::<Found>() as u32,
        )
    };
}
