//! vfio: `struct vfio_container` with type1, and the ranges of its device's addresses
//! (drivers/vfio/vfio_iommu_type1.c). What pages are behind a range only the IOMMU knows: a range has as many pins
//! as it has pages, and its file is what its owner has mapped there.

use lease_trace_common::survey::{Walk, backing, by};

use super::told::{told, told_if_any};
use crate::kernel::{
    TaskPtr,
    memory::{at, pointer},
};

/// Ranges of one container that are looked at.
pub const MOST: u64 = 1 << 20;
/// How high a tree of as many is at most.
const HEIGHT: u32 = 48;
const PAGE_SHIFT: u32 = 12;

/// `struct rb_node` (include/linux/rbtree_types.h): the parent, with a colour in its lowest bits, and children.
const RIGHT: u32 = 8;
const LEFT: u32 = 16;

/// What a container has with type1: `struct vfio_iommu`.
#[inline(always)]
pub fn iommu(container: u64) -> Option<u64> {
    let driver = pointer(container, told_if_any!(vfio.container_driver)?)?;
    if pointer(driver, told_if_any!(vfio.driver_ops)?)? != told!(type1_ops) {
        return None;
    }
    pointer(container, told_if_any!(vfio.container_data)?)
}

/// The lowest below a node, itself if there is none.
#[inline(always)]
fn leftmost(mut node: u64) -> u64 {
    for _ in 0..HEIGHT {
        match pointer(node, LEFT) {
            Some(left) => node = left,
            None => break,
        }
    }
    node
}

/// The next in order (lib/rbtree.c, `rb_next`).
#[inline(always)]
fn next(mut node: u64) -> Option<u64> {
    if let Some(right) = pointer(node, RIGHT) {
        return Some(leftmost(right));
    }
    for _ in 0..HEIGHT {
        let parent = at::<u64>(node, 0) & !3;
        if parent == 0 {
            return None;
        }
        if pointer(parent, RIGHT) != Some(node) {
            return Some(parent);
        }
        node = parent;
    }
    None
}

/// Enters the next range as a part of its own.
#[inline(always)]
pub fn open(walk: &mut Walk) -> Option<()> {
    let node = if walk.link == 0 {
        pointer(walk.object, told_if_any!(vfio.iommu_ranges)?).map(leftmost)
    } else {
        next(walk.link)
    };
    let Some(node) = node else {
        walk.entry = walk.entries;
        return None;
    };
    walk.link = node;
    // Which frames they are cannot be told.
    if walk.entry < walk.seek || walk.end_frame != 0 {
        return None;
    }
    let range = node - u64::from(told_if_any!(vfio.range_node)?);
    if at::<u8>(range, told_if_any!(vfio.range_mapped)?) == 0 {
        return None;
    }
    let len = at::<u64>(range, told_if_any!(vfio.range_len)?);
    walk.part.entry = at(range, told_if_any!(vfio.range_address)?);
    walk.part.id = range;
    walk.part.start = at(range, told_if_any!(vfio.range_start)?);
    walk.part.len = len;
    walk.part.owner =
        pointer(range, told_if_any!(vfio.range_task)?).map_or(0, |task| TaskPtr(task).tgid());
    walk.part.backing = backing::MAPPED;
    walk.part.pins = len >> PAGE_SHIFT;
    walk.by = by::NOTHING;
    None
}
