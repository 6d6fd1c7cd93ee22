//! Pins dropped, and who is credited with them.

use core::ffi::c_void;

use lease_trace_common::{
    count::Count,
    stake::{Stake, StakeKey, owner_count, pins, sole_owner},
};

use crate::{
    bpf::atomic,
    bpf::loops,
    kernel::current,
    kernel::{self, Backing, Folio, Head, Page, Pointer, Probed, SomePages},
    state::audit,
    state::calls,
    state::inodes::{InodeRef, SLOT_BITS},
    state::maps::{DETACHED, TRACKED, count},
    state::stakes::StakeRef,
    track::allowance,
    track::ring_teardown,
    track::tally::{self, Tally},
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
    /// `folio.mapping` of the page before, and its key: neighbours mostly have the same.
    mapping: u64,
    key: u64,
    tally: Tally,
}

/// `unpin_user_pages(pages, n)` and its kin.
#[inline(always)]
pub fn pages(array: u64, n: u64) {
    many(array, n, Shape::Pages);
}

/// `unpin_user_page_range_dirty_lock(page, n)`. The page is a pointer for a glance, and a number for what
/// is rarer; `n` is read anew where it is looked at closely, so that what the verifier learns of it there
/// does not multiply what follows.
#[inline(always)]
pub fn range<P: Pointer>(page: P, first: impl Fn() -> u64, n: impl Fn() -> u64) {
    if idle() {
        audit::dropped(n());
    } else if let Some(mapping) = common_mapping(page, &first, n()) {
        let n = n();
        audit::dropped(n);
        if mapping as u32 & kernel::NO_FILE == 0 && !allowance::is_paid(Probed(mapping), n) {
            release_folio(first(), n);
        }
    } else {
        many(first(), n(), Shape::Range);
    }
}

/// `folio.mapping` of consecutive pages, if they all have the same or all are of no file; `None`, too,
/// where that cannot be seen fast.
#[inline(always)]
fn common_mapping<P: Pointer>(page: P, first: &impl Fn() -> u64, n: u64) -> Option<u64> {
    let pages = SomePages::at(page)?;
    let mapping = pages.of_first()?;
    let are_alike = if n == 1 {
        true
    } else if n <= SomePages::LEN as u64 {
        kernel::are_alike(pages, || Page(first()), mapping, n)
    } else {
        let mut run = Run {
            first: first(),
            n,
            mapping,
            differ: loops::zero(),
        };
        tally::for_each_some(n, some_pages, &mut run) && run.differ == 0
    };
    (are_alike && mapping != 0).then_some(mapping)
}

/// Consecutive pages that are looked at.
struct Run {
    /// `struct page *`
    first: u64,
    n: u64,
    /// `folio.mapping` of the first.
    mapping: u64,
    /// Not zero: one was found that has another.
    differ: u64,
}

unsafe extern "C" fn some_pages(index: u64, run: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `common_mapping` gave it.
    let run = unsafe { &mut *run.cast::<Run>() };
    let before = index * SomePages::LEN as u64;
    let from = Page(run.first).nth(before);
    let Some(pages) = SomePages::at(Probed(from.0)) else {
        return 1;
    };
    if kernel::are_alike(pages, || from, run.mapping, run.n - before) {
        return 0;
    }
    run.differ = 1;
    1
}

/// `unpin_folios(folios, n)`.
#[inline(always)]
pub fn folios(array: u64, n: u64) {
    many(array, n, Shape::Folios);
}

/// `n` references on one folio.
#[inline(always)]
pub fn folio<P: Pointer>(folio: P, n: u64) {
    if audit::is_plain() {
        drop_from(folio, n);
    } else {
        audit::dropped(n);
        drop_by_records(folio.number(), n);
    }
}

/// One reference on one page.
#[inline(always)]
pub fn page<P: Pointer>(page: P) {
    if audit::is_plain() && kernel::is_head(page) {
        drop_from(page, 1);
    } else {
        audit::dropped(1);
        drop_by_records(Page(page.number()).folio().0, 1);
    }
}

/// What happens most goes no further than this: memory that is no file's, and one of many pins of the
/// only owner.
#[inline(always)]
fn drop_from<P: Pointer>(folio: P, n: u64) {
    let mapping = kernel::mapping(folio);
    if mapping.low() & kernel::NO_FILE != 0 || allowance::is_paid(mapping, n) {
        return;
    }
    drop_by_records(folio.number(), n);
}

#[inline(always)]
fn drop_by_records(folio: u64, n: u64) {
    if !idle() {
        release_folio(folio, n);
    }
}

/// A function of its own for the verifier, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn release_folio(folio: u64, n: u64) -> i64 {
    let mapping = Folio(folio).mapping();
    credit(key_of(Folio(folio), mapping, n), n, mapping);
    0
}

#[inline(always)]
fn many(base: u64, n: u64, shape: Shape) {
    audit::dropped(n);
    if idle() {
        return;
    }
    let zero = loops::zero();
    let mut drops = Drops {
        base,
        shape,
        mapping: zero,
        key: zero,
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
    let page = match drops.shape {
        // A folio begins like its first page.
        Shape::Pages | Shape::Folios => kernel::element(drops.base, index).map(Page),
        Shape::Range => Some(Page(drops.base).nth(index)),
    };
    let Some(head) = page.and_then(Head::of) else {
        count(Count::LostPages, 1);
        return 0;
    };
    let key = match head.mapping() {
        Some(mapping) if mapping == drops.mapping && mapping != 0 => drops.key,
        of_head => {
            let folio = head.folio();
            let mapping = of_head.unwrap_or_else(|| folio.mapping());
            let key = key_of(folio, mapping, 1);
            loops::keep(&mut drops.mapping, of_head.unwrap_or(0));
            loops::keep(&mut drops.key, key);
            key
        }
    };
    drops.tally.add(key, 1);
    0
}

unsafe extern "C" fn credit_entry(index: u64, drops: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `many` gave it.
    let drops = unsafe { &*drops.cast::<Drops>() };
    let Some((key, n)) = drops.tally.entry(index) else {
        return 1;
    };
    credit(key, n, 0);
    0
}

/// What a folio is accounted under: the address of its inode (upper half of the address space),
/// or slot and id of the inode's record if the folio left the page cache (lower half; `n` is then
/// taken from what the folio had). 0: it cannot be tracked.
#[inline(always)]
fn key_of(folio: Folio, mapping: u64, n: u64) -> u64 {
    match Backing::of(mapping) {
        Some(Backing::File(inode)) => inode.0,
        Some(Backing::None) => key_of_detached(folio, n),
        Some(Backing::Anonymous) | None => 0,
    }
}

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

/// Credits `n` dropped references to the process that owned them; `mapping` as for
/// [`allowance::grant`].
#[inline(always)]
fn credit(key: u64, n: u64, mapping: u64) {
    if key != 0 {
        release_credit(key, n, mapping);
    }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn release_credit(key: u64, n: u64, mapping: u64) -> i64 {
    let inode = if (key as i64) < 0 {
        InodeRef::find(key)
    } else {
        InodeRef::find_number(key)
    };
    let Some(inode) = inode else { return 0 };
    if inode.spend(n) {
        // Another file had the hint.
        inode.be_found_by(mapping);
        return 0;
    }
    credit_inode(inode, n, mapping);
    0
}

#[inline(always)]
fn credit_inode(inode: InodeRef, n: u64, mapping: u64) {
    if pins(inode.word()) == 0 || calls::under_way() {
        return;
    }
    allowance::deduct(inode);
    count(Count::Unpinned, n);
    let own = n - inode.take_short_term(n);
    let missing = if own == 0 {
        0
    } else {
        credit_owner(inode, own)
    };
    add_missing(inode, missing);
    inode.drop_pins(n);
    // One may have been given before these pins were dropped.
    allowance::deduct(inode);
    if pins(inode.word()) == 0 {
        was_last(inode);
    } else {
        allowance::grant(inode, mapping);
    }
}

/// Counts releases that found no owner.
#[inline(always)]
pub fn add_missing(inode: InodeRef, missing: u64) {
    if missing == 0 {
        return;
    }
    if owner_count(inode.owners()) > 0 {
        inode.add_unattributed(missing);
    } else {
        count(Count::Excess, missing);
    }
}

/// No pin of anybody is left in the inode.
#[inline(always)]
fn was_last(inode: InodeRef) {
    if inode.get().unattributed > 0 {
        settle(inode);
    }
    inode.forget_if_empty();
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
        match StakeRef::find(current::tgid(), id) {
            Some(stake) if pins(stake.word()) > 0 => Some(stake),
            _ => ring_teardown::stake_of(id),
        }
    };
    let Some(stake) = stake else { return n };
    let missing = stake.drop_pins(inode, n);
    stake.forget_if_empty();
    missing
}

/// No pin of any owner is left, and some releases had no known owner: whoever still seems to
/// have pins has none.
#[inline(always)]
fn settle(inode: InodeRef) {
    let mut settle = Settle {
        slot: u64::from(inode.slot),
        inode: inode.get().id,
    };
    loops::stake(settle_one, &mut settle);
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
