//! Walks over every task's descriptors and mappings: the leases that exist already, everybody who
//! keeps one alive, and everybody who has a tracked inode open or mapped. Each find is written to the reader as one record; with `CONFIG.adopt` it
//! is also entered into the maps.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use lease_trace_common::{
    COMM_LEN,
    event::{Found, MAPPING},
    owner,
    stake::pins,
};

use crate::{
    enforce,
    inodes::InodeRef,
    lease,
    maps::{CONFIG, owner_says},
    read::{self, File, FileLease, TaskPtr, Vma},
};

/// Start of `struct bpf_iter__task_file` (task, fd, file follow) and of
/// `struct bpf_iter__task_vma` (task, vma follow; kernel/bpf/task_iter.c).
#[repr(C)]
pub struct Context {
    meta: *mut Meta,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    pub seq: *mut c_void,
    session_id: u64,
    /// Elements before this one.
    pub seq_num: u64,
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
        let at = Place {
            fd: fd.unwrap_or(0) as u32,
            start: 0,
            end: 0,
        };
        found(ctx, TaskPtr(task), &at, File(file));
    }
}

/// One mapping of one task.
#[inline(always)]
pub fn task_vma(ctx: *const Context) {
    let (task, vma) = (read::word(ctx as u64, 1), read::word(ctx as u64, 2));
    if let (Some(task), Some(vma)) = (task, vma)
        && let Some(file) = Vma(vma).file()
    {
        let at = Place {
            fd: MAPPING,
            start: Vma(vma).start(),
            end: Vma(vma).end(),
        };
        found(ctx, TaskPtr(task), &at, file);
    }
}

/// Whether leases are entered that were not seen to be set: in the first walk of all.
#[inline(always)]
fn adopts() -> bool {
    read::constant(&CONFIG.adopt) != 0 && !owner_says(owner::ADOPTED)
}

/// Where a reference is: its descriptor, or [`MAPPING`] and addresses.
struct Place {
    fd: u32,
    start: u64,
    end: u64,
}

/// References to a file beside the one that this walk has: to visit a descriptor the kernel takes
/// one (kernel/bpf/task_iter.c, `task_file_seq_get_next`), to visit a mapping it does not.
#[inline(always)]
fn references(file: File, fd: u32) -> u64 {
    let of_walk = i64::from(fd != MAPPING);
    (file.references() - of_walk) as u64
}

/// Whose pins the end of this file's lease would leave uncovered; 0: nobody's.
#[inline(always)]
fn uncovers(file: File, tracked: Option<InodeRef>) -> u32 {
    match tracked {
        Some(inode) if pins(inode.word()) > 0 => enforce::would_uncover(file),
        _ => 0,
    }
}

#[inline(always)]
fn found(ctx: *const Context, who: TaskPtr, at: &Place, file: File) {
    let lease = lease::find(file);
    let tracked = file.pages_inode().and_then(|inode| InodeRef::find(inode.0));
    if lease.is_none() && tracked.is_none() {
        return;
    }
    if let Some(lease) = lease
        && adopts()
    {
        lease::adopt(file, lease, who);
    }
    let mut record = Found {
        lease: lease.map_or(0, |lease| lease.0),
        inode_id: tracked.map_or(0, |inode| inode.get().id),
        file: file.0,
        start: at.start,
        end: at.end,
        tgid: who.tgid(),
        fd: at.fd,
        flags: lease.map_or(0, FileLease::flags),
        uncovers: lease.map_or(0, |_| uncovers(file, tracked)),
        references: lease.map_or(0, |_| references(file, at.fd)),
        comm: [0; COMM_LEN],
    };
    // SAFETY: the record is a local.
    unsafe { who.copy_comm(&raw mut record.comm) };
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
