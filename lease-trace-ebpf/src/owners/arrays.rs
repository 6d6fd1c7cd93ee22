//! Objects with one entry: the umem of an AF_XDP socket (net/xdp/xdp_umem.c), and the memory of a udmabuf
//! (drivers/dma-buf/udmabuf.c).

use lease_trace_common::survey::{Walk, by};

use super::told::told_if_any;
use crate::kernel::memory::{at, pointer};

#[inline(always)]
pub fn open_umem(walk: &mut Walk) -> Option<()> {
    let umem = walk.object;
    walk.part.entry = 0;
    walk.part.id = umem;
    // Its owner's address is not kept.
    walk.part.start = 0;
    walk.part.len = at(umem, told_if_any!(own.umem_len)?);
    walk.part.owner = 0;
    walk.next = pointer(umem, told_if_any!(own.umem_pages)?)?;
    walk.left = u64::from(at::<u32>(umem, told_if_any!(own.umem_nr)?));
    walk.stride = 8;
    walk.by = by::ARRAY;
    Some(())
}

#[inline(always)]
pub fn open_dmabuf(walk: &mut Walk) -> Option<()> {
    let udmabuf = walk.object;
    walk.part.entry = 0;
    walk.part.id = udmabuf;
    walk.part.start = 0;
    walk.part.len = 0;
    walk.part.owner = 0;
    if let Some(folios) = told_if_any!(own.udmabuf_folios) {
        walk.next = pointer(udmabuf, folios)?;
        walk.left = at(udmabuf, told_if_any!(own.udmabuf_nr)?);
        walk.stride = 8;
        walk.by = by::ARRAY;
        return Some(());
    }
    let head = udmabuf + u64::from(told_if_any!(own.udmabuf_list)?);
    walk.next = pointer(head, 0)?;
    walk.left = head;
    walk.by = by::LIST;
    Some(())
}

/// The next folio of such a list.
#[inline(always)]
pub fn next_of_list(walk: &mut Walk) -> Option<u64> {
    let link = walk.next;
    if link == walk.left || link == 0 {
        return None;
    }
    walk.next = at(link, 0);
    let of = link - u64::from(told_if_any!(own.udmabuf_list_link)?);
    pointer(of, told_if_any!(own.udmabuf_list_folio)?)
}
