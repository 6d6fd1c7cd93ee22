//! io_uring: `struct io_ring_ctx` and its registered buffers (io_uring/rsrc.c).

use lease_trace_common::survey::{Walk, by};

use super::told::{told, told_if_any};
use crate::kernel::{
    TaskPtr,
    call::ring_account,
    memory::{at, pointer},
    mm_owner,
};

/// The process for whom the ring's memory is accounted; 0 where it is gone, or there is none.
#[inline(always)]
pub fn owner(ring: u64) -> u32 {
    ring_account(ring)
        .and_then(mm_owner)
        .map_or(0, TaskPtr::tgid)
}

/// How long the table of buffers is.
#[inline(always)]
pub fn entries(ring: u64) -> u64 {
    let nr = told_if_any!(own.ring_nodes_nr).or(told_if_any!(own.ring_buffers_nr));
    nr.map_or(0, |nr| u64::from(at::<u32>(ring, nr)))
}

/// The buffer at this place in the table: `struct io_mapped_ubuf`.
#[inline(always)]
fn buffer(ring: u64, entry: u64) -> Option<u64> {
    if let Some(nodes) = told_if_any!(own.ring_nodes) {
        let node = pointer(pointer(ring, nodes)? + entry * 8, 0)?;
        return pointer(node, told_if_any!(own.node_buffer)?);
    }
    let buffers = pointer(ring, told_if_any!(own.ring_buffers)?)?;
    pointer(buffers + entry * 8, 0)
}

/// Length in bytes: `len`, of four bytes up to 6.13, or an end.
#[inline(always)]
fn length(buffer: u64, start: u64) -> u64 {
    if let Some(end) = told_if_any!(own.buffer_end) {
        return at::<u64>(buffer, end).saturating_sub(start);
    }
    let (Some(len), Some(nr)) = (told_if_any!(own.buffer_len), told_if_any!(own.buffer_nr)) else {
        return 0;
    };
    if nr == len + 4 {
        u64::from(at::<u32>(buffer, len))
    } else {
        at(buffer, len)
    }
}

/// Whether the kernel itself has put the buffer there: its pages are not pinned (io_uring/rsrc.h,
/// `IO_REGBUF_F_KBUF`, 6.16).
#[inline(always)]
fn is_kernels(buffer: u64) -> bool {
    const IO_REGBUF_F_KBUF: u8 = 1;
    told_if_any!(own.buffer_flags)
        .is_some_and(|flags| at::<u8>(buffer, flags) & IO_REGBUF_F_KBUF != 0)
}

#[inline(always)]
pub fn open(walk: &mut Walk) -> Option<()> {
    let buffer = buffer(walk.object, walk.entry)?;
    if is_kernels(buffer) {
        return None;
    }
    let start = at(buffer, told_if_any!(own.buffer_start)?);
    walk.part.entry = walk.entry;
    walk.part.id = buffer;
    walk.part.start = start;
    walk.part.len = length(buffer, start);
    walk.part.owner = 0;
    walk.next = buffer + u64::from(told_if_any!(own.buffer_vecs)? + told!(own.vec_page));
    walk.stride = u64::from(told!(own.vec_size));
    let nr = u64::from(at::<u32>(buffer, told_if_any!(own.buffer_nr)?));
    // What is just being freed may say anything: as many as there are pages in it, and two where it begins and
    // ends within one.
    let most = (walk.part.len >> 12) + 2;
    walk.left = if nr < most { nr } else { most };
    walk.by = by::ARRAY;
    Some(())
}
