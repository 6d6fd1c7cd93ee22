//! Files with which something may be pinned.

use aya_ebpf::helpers::generated::bpf_seq_write;
use lease_trace_common::{
    COMM_LEN,
    survey::{Found, Kind, MAPPED},
};

use super::{
    containers, rings,
    told::{told, told_if_any},
    walk,
};
use crate::kernel::{self, File, Meta, TaskPtr, Vma, memory::pointer};

/// Start of `struct bpf_iter__task_file` and of `struct bpf_iter__task_vma` (kernel/bpf/task_iter.c).
#[repr(C)]
pub struct Context {
    meta: *mut Meta,
}

/// What an iterator's program returns: the kernel goes on to the next, or lets the reader of the iterator go first
/// (kernel/bpf/bpf_iter.c, `bpf_seq_read`).
const GO_ON: i32 = 0;
const STOP: i32 = 1;

/// One descriptor of one task.
#[inline(always)]
pub fn task_file(ctx: *const Context) -> i32 {
    let (task, fd, file) = (
        kernel::word(ctx as u64, 1),
        kernel::word(ctx as u64, 2),
        kernel::word(ctx as u64, 3),
    );
    if let (Some(task), Some(file)) = (task, file) {
        return visit(ctx, TaskPtr(task), fd.unwrap_or(0) as u32, File(file));
    }
    GO_ON
}

/// One mapping of one task.
#[inline(always)]
pub fn task_vma(ctx: *const Context) -> i32 {
    let (task, vma) = (kernel::word(ctx as u64, 1), kernel::word(ctx as u64, 2));
    if let (Some(task), Some(vma)) = (task, vma)
        && let Some(file) = Vma(vma).file()
    {
        return visit(ctx, TaskPtr(task), MAPPED, file);
    }
    GO_ON
}

/// What a file stands for, if it is something with which pages are pinned.
#[inline(always)]
fn object_of(file: File) -> Option<(Kind, u64)> {
    let operations = pointer(file.0, told!(own.file_op))?;
    let private = file.private()?;
    if operations == told!(ring_fops) {
        return Some((Kind::Ring, private));
    }
    if operations == told!(socket_fops) {
        if pointer(private, told!(own.socket_ops))? != told!(xsk_ops) {
            return None;
        }
        let socket = pointer(private, told!(own.socket_sk))?;
        let umem = pointer(socket, told_if_any!(own.socket_umem)?)?;
        return Some((Kind::Umem, umem));
    }
    if operations == told!(dmabuf_fops) {
        if pointer(private, told_if_any!(own.dmabuf_ops)?)? != told!(udmabuf_ops) {
            return None;
        }
        let udmabuf = pointer(private, told_if_any!(own.dmabuf_priv)?)?;
        return Some((Kind::Dmabuf, udmabuf));
    }
    if operations == told!(verbs_fops) || operations == told!(verbs_mmap_fops) {
        return Some((Kind::Verbs, private));
    }
    if operations == told!(vfio_fops) {
        return Some((Kind::Vfio, containers::iommu(private)?));
    }
    None
}

#[inline(always)]
fn visit(ctx: *const Context, who: TaskPtr, fd: u32, file: File) -> i32 {
    let Some((kind, object)) = object_of(file) else {
        return GO_ON;
    };
    if walk::is_asked_for(file.0) {
        walk::run(object, kind as u32);
        return STOP;
    }
    if walk::is_under_way() {
        return GO_ON;
    }
    let owner = match kind {
        Kind::Ring => rings::owner(object),
        _ => 0,
    };
    let mut found = Found {
        kind: kind as u32,
        fd,
        tgid: who.tgid(),
        owner,
        file: file.0,
        object,
        ino: file.inode().map_or(0, kernel::InodePtr::number),
        comm: [0; COMM_LEN],
    };
    // SAFETY: a local; `seq` is the iterator's own sequence file, and the record is plain data.
    unsafe {
        who.copy_comm(&raw mut found.comm);
        bpf_seq_write(
            (*(*ctx).meta).seq.cast(),
            (&raw const found).cast_mut().cast(),
            size_of::<Found>() as u32,
        )
    };
    GO_ON
}
