//! Pins dropped, and who is credited with them.

use core::ffi::c_void;

use lease_trace_common::{
    count::Count,
    stake::{Stake, StakeKey, owner_count, pins, sole_owner},
};

use crate::{
    atomic, audit, each,
    inodes::InodeRef,
    maps::{ACTING, Call, DETACHED, TRACKED, count},
    pin,
    read::{self, Backing, Folio, Page},
    stakes::StakeRef,
    tally::{self, Tally},
    task,
};

/// Nothing is tracked: every hook here returns at once.
#[inline(always)]
pub fn idle() -> bool {
    // SAFETY: a global of this object.
    unsafe { atomic::load(&raw const TRACKED) == 0 }
}

/// What the pages of one call are and how to find the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `struct page **`
    Pages,
    /// `struct page *`, consecutive
    Range,
    /// `struct folio **`
    Folios,
}

/// References dropped by one call, summed up by [`key_of`].
struct Drops {
    base: u64,
    shape: Shape,
    tally: Tally,
}

/// `unpin_user_pages(pages, n)` and its kin.
#[inline(always)]
pub fn pages(array: u64, n: u64) {
    many(array, n, Shape::Pages);
}

/// `unpin_user_page_range_dirty_lock(page, n)`.
#[inline(always)]
pub fn range(first: u64, n: u64) {
    many(first, n, Shape::Range);
}

/// `unpin_folios(folios, n)`.
#[inline(always)]
pub fn folios(array: u64, n: u64) {
    many(array, n, Shape::Folios);
}

/// `n` references on one folio.
#[inline(always)]
pub fn folio(folio: Folio, n: u64) {
    audit::dropped(n);
    if !idle() {
        credit(key_of(folio, n), n);
    }
}

/// One reference on one page.
#[inline(always)]
pub fn page(page: Page) {
    audit::dropped(1);
    if idle() {
        return;
    }
    if let Some(found) = page.folio() {
        credit(key_of(found, 1), 1);
    }
}

#[inline(always)]
fn many(base: u64, n: u64, shape: Shape) {
    audit::dropped(n);
    if idle() {
        return;
    }
    let mut drops = Drops {
        base,
        shape,
        tally: Tally::new(),
    };
    drops.tally.close_run();
    tally::for_each_page(n, one_page, &mut drops);
    drops.tally.close_run();
    tally::for_each_entry(credit_entry, &mut drops);
}

unsafe extern "C" fn one_page(index: u64, drops: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `many` gave it.
    let drops = unsafe { &mut *drops.cast::<Drops>() };
    let folio = match drops.shape {
        Shape::Pages => read::element(drops.base, index).and_then(|page| Page(page).folio()),
        Shape::Range => Page(drops.base).nth(index).folio(),
        Shape::Folios => read::element(drops.base, index).map(Folio),
    };
    match folio {
        Some(folio) => drops.tally.add(key_of(folio, 1), 1),
        None => count(Count::LostPages, 1),
    }
    0
}

unsafe extern "C" fn credit_entry(index: u64, drops: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `many` gave it.
    let drops = unsafe { &*drops.cast::<Drops>() };
    let Some((key, n)) = drops.tally.entry(index) else {
        return 1;
    };
    credit(key, n);
    0
}

/// What a folio is accounted under: the address of its inode (upper half of the address space),
/// or slot and id of the inode's record if the folio left the page cache (lower half; `n` is then
/// taken from what the folio had). 0: it cannot be tracked.
#[inline(always)]
fn key_of(folio: Folio, n: u64) -> u64 {
    match folio.backing() {
        Some(Backing::File(inode)) => inode.0,
        Some(Backing::None) => key_of_detached(folio, n),
        Some(Backing::Anonymous) | None => 0,
    }
}

/// As many as `--capacity` may ask for (1,048,576).
const SLOT_BITS: u32 = 20;

#[inline(always)]
fn key_of_detached(folio: Folio, n: u64) -> u64 {
    let Some(detached) = DETACHED.get_ptr_mut(folio.0) else {
        return 0;
    };
    // SAFETY: a live map value.
    unsafe {
        let key = (*detached).inode_id << SLOT_BITS | (*detached).slot;
        if atomic::sub(&raw mut (*detached).pins, n) <= n {
            _ = DETACHED.remove(folio.0);
        }
        key
    }
}

/// Credits `n` dropped references to the process that owned them.
#[inline(always)]
fn credit(key: u64, n: u64) {
    if key != 0 {
        release_credit(key, n);
    }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn release_credit(key: u64, n: u64) -> i64 {
    let inode = if (key as i64) < 0 {
        InodeRef::find(key)
    } else {
        InodeRef::find_slot(key & ((1 << SLOT_BITS) - 1), key >> SLOT_BITS)
    };
    if let Some(inode) = inode {
        credit_inode(inode, n);
    }
    0
}

#[inline(always)]
fn credit_inode(inode: InodeRef, n: u64) {
    if pins(inode.word()) == 0 || pin::under_way() {
        return;
    }
    count(Count::Unpinned, n);
    let own = n - inode.take_short_term(n);
    let missing = if own == 0 {
        0
    } else {
        credit_owner(inode, own)
    };
    if missing > 0 {
        if owner_count(inode.owners()) > 0 {
            inode.add_unattributed(missing);
        } else {
            count(Count::Excess, missing);
        }
    }
    if inode.drop_pins(n) == 0 {
        if inode.get().unattributed > 0 {
            settle(inode);
        }
        inode.forget_if_empty();
    }
}

/// Takes `n` pins from the stake they belong to; returns how many found no owner.
///
/// A sole owner is certain. Among several it is the current process if it has pins, else the one
/// in whose name this thread acts.
#[inline(always)]
fn credit_owner(inode: InodeRef, n: u64) -> u64 {
    let id = inode.get().id;
    let stake = if let Some(tgid) = sole_owner(inode.owners()) {
        StakeRef::find(tgid, id)
    } else {
        match StakeRef::find(task::tgid(), id) {
            Some(stake) if pins(stake.word()) > 0 => Some(stake),
            _ => acting_for(id),
        }
    };
    let Some(stake) = stake else { return n };
    let missing = stake.drop_pins(inode, n);
    stake.forget_if_empty();
    missing
}

/// The stake of the process in whose name this kernel thread tears down a ring: of the one whose
/// address space it is, or was when it took the pins.
#[inline(always)]
fn acting_for(inode_id: u64) -> Option<StakeRef> {
    let mm = ACTING.get_ptr(task::pid_tgid())?;
    // SAFETY: a live map value.
    let owner = read::mm_owner(unsafe { *mm });
    if let Some(owner) = owner
        && let Some(stake) = StakeRef::find(owner.tgid(), inode_id)
        && pins(stake.word()) > 0
    {
        return Some(stake);
    }
    let mut search = Search {
        inode: inode_id,
        mm: 0,
        tgid: 0,
    };
    // SAFETY: a live map value.
    search.mm = unsafe { *mm };
    each::stake(same_mm, &mut search);
    if search.tgid == 0 {
        None
    } else {
        StakeRef::find(search.tgid, inode_id)
    }
}

struct Search {
    inode: u64,
    mm: u64,
    tgid: u32,
}

unsafe extern "C" fn same_mm(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    search: *mut Search,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `acting_for` gave it.
    unsafe {
        if (*key).inode == (*search).inode && (*stake).mm == (*search).mm {
            (*search).tgid = (*key).tgid;
            return 1;
        }
    }
    0
}

/// No pin of any owner is left, and some releases had no known owner: whoever still seems to
/// have pins has none.
#[inline(always)]
fn settle(inode: InodeRef) {
    let mut settle = Settle {
        slot: u64::from(inode.slot),
        inode: inode.get().id,
    };
    each::stake(settle_one, &mut settle);
}

struct Settle {
    slot: u64,
    inode: u64,
}

unsafe extern "C" fn settle_one(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    settle: *mut Settle,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `settle` gave it.
    unsafe {
        if (*key).inode == (*settle).inode
            && let Some(inode) = InodeRef::find_slot((*settle).slot, (*settle).inode)
        {
            let stake = StakeRef::of_walk(*key, stake);
            let left = pins(stake.word());
            if left > 0 {
                stake.drop_pins(inode, left);
            }
        }
    }
    0
}

/// A kernel thread begins to tear down a ring: what it unpins belongs to the ring's creator.
#[inline(always)]
pub fn act_for(exit_work: u64) {
    if !idle()
        && let Some(mm) = read::ring_mm(exit_work)
    {
        _ = ACTING.insert(task::pid_tgid(), &mm, 0);
        pin::keep(&Call {
            mm,
            ..Call::new(0, 0, 0)
        });
    }
}

/// It is done.
#[inline(always)]
pub fn act_for_nobody(_ctx: *mut c_void, _call: &Call, _ret: i64) {
    _ = ACTING.remove(task::pid_tgid());
}
