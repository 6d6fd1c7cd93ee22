//! Folios that leave the page cache while pinned, and inodes that are destroyed. Reclaim cannot
//! take a pinned folio; truncation, hole punching and eviction can.

use aya_ebpf::bindings::BPF_ANY;
use lease_trace_common::{
    count::Count,
    stake::{Detached, detached_tag, pins},
    tagged,
    word::Word as _,
};

use crate::{
    kernel::{self, Backing, Folio, InodePtr},
    state::{
        inodes::InodeRef,
        losses::lost,
        maps::{DETACHED, detachings, nothing_tracked, pinning},
    },
};

/// A folio is about to leave the page cache: if it is pinned and its inode is tracked, or may be as
/// soon as a call that pins returns, its pins are remembered by folio.
#[inline(always)]
pub fn detach(folio: Folio) {
    if !is_of_nobody() {
        detach_one(folio);
    }
}

/// No pins are counted, nor are any being taken.
#[inline(always)]
fn is_of_nobody() -> bool {
    nothing_tracked() && pinning().load() == 0
}

#[inline(always)]
fn detach_one(folio: Folio) {
    page_cache_detach(folio.0);
}

/// A global function, verified separately: checked once, not for each folio of a batch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn page_cache_detach(folio: u64) -> i64 {
    let folio = Folio(folio);
    let held = folio.pins();
    if held == 0 {
        return 0;
    }
    let Some(Backing::File(inode)) = folio.backing() else {
        return 0;
    };
    let (slot, inode_id, counted) = match InodeRef::find(inode.0) {
        Some(found) => (found.slot, found.id, pins(found.word())),
        None => (0, 0, 0),
    };
    if counted == 0 && pinning().load() == 0 {
        return 0;
    }
    let record = Detached {
        inode: inode.0,
        slot: u64::from(slot),
        inode_id,
        order: detachings().add(1) + 1,
        pins: tagged::fresh(detached_tag(folio.0)) + held,
    };
    if DETACHED.insert(folio.0, &record, BPF_ANY.into()).is_err() {
        lost(Count::LostDetached, held, folio.0);
    }
    0
}

/// The inode that a folio was of which left the page cache after there were so many
/// [`detachings`]; 0 if it is not known.
#[inline(always)]
pub fn inode_before(folio: Folio, since: u64) -> u64 {
    // SAFETY: a map value.
    DETACHED.get_ptr(folio.0).map_or(0, |detached| unsafe {
        if (*detached).order > since {
            (*detached).inode
        } else {
            0
        }
    })
}

/// `delete_from_page_cache_batch(mapping, batch)`.
#[inline(always)]
pub fn detach_batch(batch: u64) {
    /// `PAGEVEC_SIZE` (include/linux/pagevec.h) where it is largest.
    const BATCH: u64 = 31;
    if is_of_nobody() {
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
    if !nothing_tracked()
        && let Some(found) = InodeRef::find(inode.0)
    {
        found.evicted(inode.0);
    }
}
