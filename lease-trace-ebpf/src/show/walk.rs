//! Walks over every task's descriptors and mappings: the leases that exist already, everybody who
//! keeps one alive, and everybody who has a tracked inode open or mapped. Each find is written to the
//! reader as one record; with `CONFIG.adopt` it is also entered into the maps.

use aya_ebpf::helpers::generated::bpf_seq_write;
use lease_trace_common::{
    COMM_LEN, control,
    event::{Found, MAPPING},
    stake::pins,
};

use crate::bpf::config::{CONFIG, constant};
use crate::{
    kernel::{self, File, FileLease, Meta, TaskPtr, Vma, leases},
    state::inodes::InodeRef,
    state::maps::control_flag,
};

/// What a walk asks of those who know more than what is shown.
pub trait On {
    /// Whose pins the end of this file's lease would leave uncovered: a thread group, or 0.
    fn whom(&self, file: File) -> u32;

    /// A lease that is older than the tool; `who` is a task that keeps it alive.
    fn adopt(&self, file: File, lease: FileLease, who: TaskPtr);
}

/// Start of `struct bpf_iter__task_file` (task, fd, file follow) and of
/// `struct bpf_iter__task_vma` (task, vma follow; kernel/bpf/task_iter.c).
#[repr(C)]
pub struct Context {
    meta: *mut Meta,
}

/// One descriptor of one task.
#[inline(always)]
pub fn task_file(ctx: *const Context, on: &impl On) {
    let (task, fd, file) = (
        kernel::word(ctx as u64, 1),
        kernel::word(ctx as u64, 2),
        kernel::word(ctx as u64, 3),
    );
    if let (Some(task), Some(file)) = (task, file) {
        let task = TaskPtr(task);
        found(
            ctx,
            on,
            task,
            Found {
                file,
                fd: fd.unwrap_or(0) as u32,
                table: task.descriptor_table(),
                ..NOTHING
            },
        );
    }
}

/// One mapping of one task.
#[inline(always)]
pub fn task_vma(ctx: *const Context, on: &impl On) {
    let (task, vma) = (kernel::word(ctx as u64, 1), kernel::word(ctx as u64, 2));
    if let (Some(task), Some(vma)) = (task, vma)
        && let Some(file) = Vma(vma).file()
    {
        let task = TaskPtr(task);
        found(
            ctx,
            on,
            task,
            Found {
                file: file.0,
                start: Vma(vma).start(),
                end: Vma(vma).end(),
                fd: MAPPING,
                table: task.mm(),
                ..NOTHING
            },
        );
    }
}

const NOTHING: Found = Found {
    lease: 0,
    inode_id: 0,
    file: 0,
    start: 0,
    end: 0,
    tgid: 0,
    fd: 0,
    flags: 0,
    uncovers: 0,
    references: 0,
    table: 0,
    comm: [0; COMM_LEN],
};

/// Whether leases are entered that were not seen to be set: in the first walk of all.
#[inline(always)]
fn adopts() -> bool {
    constant(&CONFIG.adopt) != 0 && !control_flag(control::ADOPTED)
}

/// References to a file beside the one that this walk has: to visit a descriptor the kernel takes
/// one (kernel/bpf/task_iter.c, `task_file_seq_get_next`), to visit a mapping it does not.
#[inline(always)]
fn references(file: File, fd: u32) -> u64 {
    let of_walk = i64::from(fd != MAPPING);
    (file.references() - of_walk) as u64
}

/// Fills in what is known of a file: its lease, and its inode if that is tracked; 0 if there is neither.
/// A function of its own, so that its stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_look_up(record: *mut Found) -> i64 {
    // SAFETY: `found` passes its record, or the verifier a null pointer.
    let Some(record) = (unsafe { record.as_mut() }) else {
        return 0;
    };
    let file = File(record.file);
    let lease = leases::find(file);
    if let Some(lease) = lease {
        record.lease = lease.0;
        record.flags = lease.flags();
        record.references = references(file, record.fd);
    }
    if let Some(inode) = file.pages_inode() {
        if let Some(tracked) = InodeRef::find(inode.0) {
            record.inode_id = tracked.id;
            // To be found out by the caller.
            if lease.is_some() && pins(tracked.word()) > 0 {
                record.uncovers = 1;
            }
        } else if file
            .inode()
            .is_some_and(|opened| leases::number(opened) > 0)
        {
            // Of what has no record the address tells it from others.
            record.inode_id = inode.0;
        }
    }
    i64::from(record.lease != 0 || record.inode_id != 0)
}

#[inline(always)]
fn found(ctx: *const Context, on: &impl On, who: TaskPtr, mut record: Found) {
    record.tgid = who.tgid();
    if walk_look_up(&raw mut record) == 0 {
        return;
    }
    if record.uncovers != 0 {
        record.uncovers = on.whom(File(record.file));
    }
    if record.lease != 0 && adopts() {
        on.adopt(File(record.file), FileLease(record.lease), who);
    }
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
