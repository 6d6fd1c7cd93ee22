//! What a file has pinned, by the folios in its page cache: the kernel's own count.
//!
//! They are found in the tree of `address_space.i_pages` (include/linux/xarray.h). The programs that do it
//! run under RCU, as all do that cannot sleep, so its nodes stay. It is read without its lock: what changes
//! meanwhile is the caller's business.

use core::ffi::c_void;

use super::memory::{Folio, InodePtr, at, pointer};
use crate::bpf::loops;

/// Slots looked at: those of 512 MiB in pages of 4 KiB, some ten milliseconds. A slot above the leaves with
/// nothing below it, or with a large folio, is one.
const MOST_SLOTS: u32 = 1 << 17;
/// `XA_CHUNK_SHIFT`: each node has 64 slots.
const SLOT_BITS: u32 = 6;
/// Nodes above each other: a file ends at 2^63 bytes.
const LEVELS: u32 = 9;

/// Bits of an entry, and the one that says that it is just being changed.
const VALUE: u64 = 1;
const INTERNAL: u64 = 2;
const XA_RETRY_ENTRY: u64 = 256 << 2 | INTERNAL;

/// What [`page_cache_pins`] returns where it does not know, and where the tree was changed under it.
const UNKNOWN: i64 = -1;
const TORN: i64 = -2;

/// What is found of a file.
#[derive(Clone, Copy)]
pub enum Cached {
    /// So many pins.
    Pins(u64),
    /// The tree was changed under the walk: another may do.
    Torn,
    /// It cannot be seen: it is no regular file, its pages are memory of a device (DAX), or there are more slots than
    /// are looked at.
    Unknown,
}

impl InodePtr {
    /// Pin references on the folios in its page cache, as far as they are not `enough`.
    #[inline(always)]
    pub fn cached_pins(self, enough: u64) -> Cached {
        match page_cache_pins(self.0, enough) {
            UNKNOWN => Cached::Unknown,
            TORN => Cached::Torn,
            pins => Cached::Pins(pins as u64),
        }
    }

    #[inline(always)]
    fn has_page_cache(self) -> bool {
        /// include/linux/fs.h
        const S_DAX: u32 = 1 << 13;
        self.is_regular() && at::<u32>(self.0, offset!(inode_flags)) & S_DAX == 0
    }
}

struct Walk {
    /// `xa_head`
    head: u64,
    /// The next index, and the first that the tree is too low for.
    index: u64,
    end: u64,
    pins: u64,
    enough: u64,
    /// Not 0: the tree was changed under the walk.
    torn: u64,
}

/// A global function, verified separately, and its stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn page_cache_pins(inode: u64, enough: u64) -> i64 {
    let inode = InodePtr(inode);
    let Some(mapping) = pointer(inode.0, offset!(inode_mapping)) else {
        return UNKNOWN;
    };
    if !inode.has_page_cache() || pointer(mapping, offset!(mapping_host)) != Some(inode.0) {
        return UNKNOWN;
    }
    let head = at::<u64>(mapping, offset!(mapping_pages));
    let zero = loops::zero();
    let mut walk = Walk {
        head,
        index: zero,
        end: zero + end_of(head),
        pins: zero,
        enough,
        torn: zero,
    };
    loops::repeat(MOST_SLOTS, one_slot, &mut walk);
    let is_whole = walk.torn == 0 && walk.index >= walk.end;
    if is_whole || walk.pins >= enough {
        walk.pins as i64
    } else if walk.torn != 0 {
        TORN
    } else {
        UNKNOWN
    }
}

/// The node that an entry points to (`xa_is_node`).
#[inline(always)]
fn node_of(entry: u64) -> Option<u64> {
    (entry & (INTERNAL | VALUE) == INTERNAL && entry > 4096).then_some(entry - INTERNAL)
}

/// How far a node shifts an index to find its slot.
#[inline(always)]
fn shift_of(node: u64) -> u32 {
    u32::from(at::<u8>(node, offset!(xa_node_shift))) & 63
}

/// The first index that a tree with this head is too low for.
#[inline(always)]
fn end_of(head: u64) -> u64 {
    match node_of(head) {
        Some(node) => 1 << ((shift_of(node) + SLOT_BITS) & 63),
        None => 1,
    }
}

/// What is at an index: an entry, and the shift of the node that it is in.
#[inline(always)]
fn look_up(head: u64, index: u64) -> (u64, u32) {
    let (mut entry, mut shift) = (head, 0);
    for _ in 0..LEVELS {
        let Some(node) = node_of(entry) else { break };
        shift = shift_of(node);
        let slot = index >> shift & ((1 << SLOT_BITS) - 1);
        entry = at(node + slot * 8, offset!(xa_node_slots));
    }
    (entry, shift)
}

unsafe extern "C" fn one_slot(_turn: u64, walk: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `page_cache_pins` gave it.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    if walk.index >= walk.end {
        return 1;
    }
    let (entry, shift) = look_up(walk.head, walk.index);
    if entry == XA_RETRY_ENTRY || node_of(entry).is_some() {
        loops::keep(&mut walk.torn, 1);
        return 1;
    }
    // With bit 1 it is an internal entry, a sibling of a large folio, which is counted where it begins; with
    // bit 0 a value, of what was swapped or is memory of a device.
    if entry != 0 && entry & (INTERNAL | VALUE) == 0 {
        let pins = walk.pins + Folio(entry).pins();
        loops::keep(&mut walk.pins, pins);
        if walk.pins >= walk.enough {
            return 1;
        }
    }
    let next = ((walk.index >> shift) + 1) << shift;
    loops::keep(&mut walk.index, next);
    0
}
