//! vfio: `struct vfio_container` with type1, and the ranges of its device's addresses
//! (drivers/vfio/vfio_iommu_type1.c). What pages are behind a range only the IOMMU knows: of a range
//! it is known how many it has pinned, and its file is what its owner has mapped there.

use lease_trace_common::survey::{Walk, backing, by};

use super::told::{told, told_if_any};
use crate::kernel::{
    TaskPtr,
    memory::{at, pointer},
};

/// Ranges of one container that are looked at: a tree that others change meanwhile may lead round in a circle.
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

/// The next range, or the first: `struct vfio_dma`.
#[inline(always)]
pub fn next_range(walk: &mut Walk) -> Option<u64> {
    let node = if walk.link == 0 {
        leftmost(pointer(walk.object, told_if_any!(vfio.iommu_ranges)?)?)
    } else {
        next(walk.link)?
    };
    walk.link = node;
    Some(node - u64::from(told_if_any!(vfio.range_node)?))
}

/// Enters the next range as a part of its own.
#[inline(always)]
pub fn open(walk: &mut Walk) -> Option<()> {
    let Some(range) = next_range(walk) else {
        walk.entry = walk.entries;
        return None;
    };
    // Which frames they are cannot be told.
    if walk.end_frame != 0 {
        return None;
    }
    if at::<u8>(range, told_if_any!(vfio.range_mapped)?) == 0 {
        return None;
    }
    let len = at::<u64>(range, told_if_any!(vfio.range_len)?);
    walk.part.entry = at(range, told_if_any!(vfio.range_address)?);
    walk.part.id = range;
    walk.part.start = at(range, told_if_any!(vfio.range_start)?);
    walk.part.len = len;
    // A task that is kept after its end has no memory any more.
    walk.part.owner = pointer(range, told_if_any!(vfio.range_task)?)
        .map(TaskPtr)
        .filter(|task| task.mm() != 0)
        .map_or(0, TaskPtr::tgid);
    walk.part.backing = backing::MAPPED;
    // Pages of a device's memory are mapped for it, and not pinned.
    walk.part.pins = match told_if_any!(vfio.range_locked) {
        Some(locked) => at(range, locked),
        None => len >> PAGE_SHIFT,
    };
    walk.by = by::NOTHING;
    None
}
