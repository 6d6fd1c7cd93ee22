//! RDMA: the memory regions of one `struct ib_uverbs_file` (drivers/infiniband/core/rdma_core.c), and the pages
//! of a region's `struct ib_umem` (umem.c), which its driver keeps.

use lease_trace_common::survey::{DRIVERS, Driver, Walk, by};

use super::told::{told, told_if_any};
use crate::kernel::{
    Page, TaskPtr,
    memory::{at, pointer},
    mm_owner,
};

/// Objects of one file that are looked at: a list that others change meanwhile may lead round in a circle.
pub const MOST: u64 = 1 << 20;

/// The next object of the list, or the one that the walk was at; `None` behind the last.
#[inline(always)]
pub fn next_object(walk: &mut Walk) -> Option<u64> {
    let head = walk.object + u64::from(told_if_any!(verbs.file_objects)?);
    let link = if walk.link == 0 { head } else { walk.link };
    let next = pointer(link, 0)?;
    if next == head {
        return None;
    }
    walk.link = next;
    Some(next - u64::from(told_if_any!(verbs.object_link)?))
}

/// The region that an object is, if it is one: `struct ib_mr`.
#[inline(always)]
fn region(object: u64) -> Option<u64> {
    let api = pointer(object, told_if_any!(verbs.object_api)?)?;
    if u32::from(at::<u16>(api, told_if_any!(verbs.api_id)?)) != told!(region_id) {
        return None;
    }
    pointer(object, told_if_any!(verbs.object_object)?)
}

/// `enum rdma_driver_id`; 0 if it cannot be read.
#[inline(always)]
fn driver(region: u64) -> u32 {
    let device = told_if_any!(verbs.region_device).and_then(|device| pointer(region, device));
    match (device, told_if_any!(verbs.device_driver)) {
        (Some(device), Some(driver)) => at(device, driver),
        _ => 0,
    }
}

/// What its driver has pinned for it: `struct ib_umem`.
#[inline(always)]
fn umem(region: u64) -> Option<u64> {
    let driver = driver(region);
    for n in 0..DRIVERS {
        let known: Driver = told!(drivers[n]);
        if known.id != 0 && known.id == driver {
            return pointer(region - u64::from(known.region), known.umem);
        }
    }
    None
}

#[inline(always)]
pub fn open(walk: &mut Walk) -> Option<()> {
    let Some(object) = next_object(walk) else {
        walk.entry = walk.entries;
        return None;
    };
    let region = region(object)?;
    let umem = umem(region)?;
    if u32::from(at::<u8>(umem, told!(unpinned_byte))) & told!(unpinned_bits) != 0 {
        return None;
    }
    walk.part.entry = u64::from(at::<u32>(region, told_if_any!(verbs.region_number)?));
    walk.part.id = umem;
    walk.part.start = at(umem, told_if_any!(verbs.umem_start)?);
    walk.part.len = at(umem, told_if_any!(verbs.umem_len)?);
    walk.part.owner = pointer(umem, told_if_any!(verbs.umem_mm)?)
        .and_then(mm_owner)
        .map_or(0, TaskPtr::tgid);
    walk.part.driver = driver(region);
    walk.sg = pointer(umem, told_if_any!(verbs.umem_sg)?)?;
    walk.sg_left = u64::from(at::<u32>(umem, told_if_any!(verbs.umem_sg_nr)?));
    walk.stride = Page(0).nth(1).0;
    walk.by = by::PAGES;
    walk.left = 0;
    next_of_list(walk);
    Some(())
}

/// The pages of the next element of the scatterlist, if there is one (include/linux/scatterlist.h): one whose lowest bit is
/// set leads to where the list goes on.
#[inline(always)]
pub fn next_of_list(walk: &mut Walk) {
    const SG_CHAIN: u64 = 1;
    const SG_END: u64 = 2;
    const PAGE_SIZE: u64 = 4096;
    if walk.sg_left == 0 {
        return;
    }
    let (link, len) = (told!(own.sg_link), told!(own.sg_len));
    let mut sg = walk.sg;
    let mut to = at::<u64>(sg, link);
    if to & SG_CHAIN != 0 {
        sg = to & !(SG_CHAIN | SG_END);
        to = at(sg, link);
    }
    walk.sg = sg + u64::from(told!(own.sg_size));
    walk.sg_left -= 1;
    walk.next = to & !(SG_CHAIN | SG_END);
    walk.left = u64::from(at::<u32>(sg, len)).div_ceil(PAGE_SIZE);
}
