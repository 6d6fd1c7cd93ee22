//! Folios that leave the page cache while pinned, and inodes that are destroyed. Reclaim cannot
//! take a pinned folio; truncation, hole punching and eviction can.

use aya_ebpf::bindings::BPF_ANY;
use lease_trace_common::{
    count::Count,
    stake::{Detached, pins},
};

use crate::{
    kernel::{self, Backing, Folio, InodePtr},
    state::inodes::InodeRef,
    state::maps::{DETACHED, SLOT_OF, count},
    track::release::idle,
};

/// A folio is about to leave the page cache: if it is pinned and its inode is tracked, its pins
/// are remembered by folio.
#[inline(always)]
pub fn detach(folio: Folio) {
    if idle() {
        return;
    }
    detach_one(folio);
}

#[inline(never)]
fn detach_one(folio: Folio) -> i64 {
    let held = folio.pins();
    if held == 0 {
        return 0;
    }
    let Some(Backing::File(inode)) = folio.backing() else {
        return 0;
    };
    let Some(found) = InodeRef::find(inode.0) else {
        return 0;
    };
    if pins(found.word()) == 0 {
        return 0;
    }
    let record = Detached {
        slot: u64::from(found.slot),
        inode_id: found.get().id,
        pins: held,
    };
    if DETACHED.insert(folio.0, &record, BPF_ANY.into()).is_err() {
        count(Count::LostDetached, held);
    }
    0
}

/// `delete_from_page_cache_batch(mapping, batch)`.
#[inline(always)]
pub fn detach_batch(batch: u64) {
    const BATCH: u64 = 31;
    if idle() {
        return;
    }
    let len = kernel::batch_len(batch);
    for index in 0..BATCH {
        if index >= len {
            return;
        }
        if let Some(folio) = kernel::batch_folio(batch, index) {
            detach_one(folio);
        }
    }
}

/// `__destroy_inode`: the address may be used again for another inode.
#[inline(always)]
pub fn evict(inode: InodePtr) {
    if !idle()
        && let Some(found) = InodeRef::find(inode.0)
        && SLOT_OF.remove(inode.0).is_ok()
    {
        found.evicted();
    }
}
