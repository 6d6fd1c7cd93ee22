//! Pins dropped, and who is credited with them.

use core::ffi::c_void;

use lease_trace_common::{
    books::{self as common, Term},
    count::Count,
    stake::{detached_tag, pins},
    tagged,
    word::Word as _,
};

use crate::{
    bpf::{atomic::At, config, loops},
    kernel::{self, Backing, Folio, Head, Page, Pointer, Probed, SomePages},
    state::{
        calls, cross_check,
        inodes::InodeRef,
        losses::lost,
        maps::{DETACHED, count, nothing_tracked},
    },
    track::{
        books,
        runs::{self, Run},
    },
};

/// What the pages of one call are and how to find the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `struct page **`, or `struct folio **`: a folio begins like its first page
    Pages,
    /// `struct page *`, consecutive
    Range,
}

/// References dropped by one call; runs are by [`key_of`].
struct Drops {
    base: u64,
    shape: Shape,
    /// `folio.mapping` of the page before, and its key: neighbours mostly have the same.
    mapping: u64,
    key: u64,
    run: Run,
}

/// `unpin_user_pages(pages, n)`, `unpin_folios(folios, n)` and their kin.
#[inline(always)]
pub fn pages(array: u64, n: u64) {
    many(array, n, Shape::Pages);
}

/// `unpin_user_page_range_dirty_lock(page, n)`. The page is a pointer for a glance, and a number for what
/// is rarer; `n` is read anew where it is looked at closely, so that what the verifier learns of it there
/// does not multiply what follows.
#[inline(always)]
pub fn range<P: Pointer>(page: P, first: impl Fn() -> u64, n: impl Fn() -> u64) {
    if nothing_tracked() {
        cross_check::dropped(n());
    } else if let Some(mapping) = common_mapping(page, &first, n()) {
        let n = n();
        cross_check::dropped(n);
        if mapping as u32 & kernel::NO_FILE == 0 && !is_batched(Probed(mapping), n) {
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
        let mut run = Range {
            first: first(),
            n,
            mapping,
            differ: loops::zero(),
        };
        runs::for_each_some(n, some_pages, &mut run) && run.differ == 0
    };
    (are_alike && mapping != 0).then_some(mapping)
}

/// Consecutive pages that are looked at.
struct Range {
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
    let run = unsafe { &mut *run.cast::<Range>() };
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

/// `n` references on one folio.
#[inline(always)]
pub fn folio<P: Pointer>(folio: P, n: u64) {
    if config::is_plain() {
        drop_from(folio, n);
    } else {
        cross_check::dropped(n);
        drop_by_records(folio.number(), n);
    }
}

/// One reference on one page.
#[inline(always)]
pub fn page<P: Pointer>(page: P) {
    if config::is_plain() && kernel::is_head(page) {
        drop_from(page, 1);
    } else {
        cross_check::dropped(1);
        drop_by_records(Page(page.number()).folio().0, 1);
    }
}

/// What happens most goes no further than this: memory that is no file's, and one of many pins of the
/// only owner.
#[inline(always)]
fn drop_from<P: Pointer>(folio: P, n: u64) {
    let mapping = kernel::mapping(folio);
    if mapping.low() & kernel::NO_FILE != 0 || is_batched(mapping, n) {
        return;
    }
    drop_by_records(folio.number(), n);
}

#[inline(always)]
fn drop_by_records(folio: u64, n: u64) {
    if !nothing_tracked() {
        release_folio(folio, n);
    }
}

/// A global function, verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn release_folio(folio: u64, n: u64) -> i64 {
    let mapping = Folio(folio).mapping();
    credit(key_of(Folio(folio), mapping, n), n, mapping);
    0
}

#[inline(always)]
fn many(base: u64, n: u64, shape: Shape) {
    cross_check::dropped(n);
    if nothing_tracked() {
        return;
    }
    let zero = loops::zero();
    let mut drops = Drops {
        base,
        shape,
        mapping: zero,
        key: zero,
        run: Run::new(),
    };
    runs::for_each_page(base, n, one_page, &mut drops);
    credit_run(drops.run.end());
}

unsafe extern "C" fn one_page(index: u64, drops: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `many` gave it.
    let drops = unsafe { &mut *drops.cast::<Drops>() };
    let page = match drops.shape {
        Shape::Pages => kernel::element(drops.base, index).map(Page),
        Shape::Range => Some(Page(drops.base).nth(index)),
    };
    // The kernel leaves out what it has dealt with already (mm/gup.c, unpin_user_pages).
    let Some(page) = page else { return 0 };
    let Some(head) = Head::of(page) else {
        lost(Count::LostPages, 1, page.0);
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
    credit_run(drops.run.add(key));
    0
}

#[inline(always)]
fn credit_run(run: Option<(u64, u64)>) {
    if let Some((key, n)) = run {
        credit(key, n, 0);
    }
}

/// What a folio is accounted under: the address of its inode (upper half of the address space),
/// or slot and id of the inode's record if the folio left the page cache (lower half; `n` is then
/// taken from what the folio had). 0: it cannot be tracked.
#[inline(always)]
fn key_of(folio: Folio, mapping: u64, n: u64) -> u64 {
    match Backing::of(mapping) {
        Some(Backing::File(inode)) => inode.0,
        Some(Backing::None) => release_detached(folio.0, n) as u64,
        Some(Backing::Anonymous) | None => 0,
    }
}

/// A global function, verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn release_detached(folio: u64, n: u64) -> i64 {
    let Some(detached) = DETACHED.get_ptr_mut(folio) else {
        return 0;
    };
    let tag = detached_tag(folio);
    // SAFETY: a map value, whose memory is that of a folio's count as long as the program runs.
    let (number, inode, pins) = unsafe {
        (
            InodeRef::number_of((*detached).slot, (*detached).inode_id),
            (*detached).inode,
            At::new(&raw mut (*detached).pins),
        )
    };
    if pins.count_down(tag, n) == 0 {
        return 0;
    }
    if tagged::get(pins, tag) == 0 {
        _ = DETACHED.remove(folio);
    }
    // Without the record of then, the pins were counted in the one that the inode has now.
    match InodeRef::find_number(number) {
        Some(record) if record.word() != 0 => number as i64,
        _ => inode as i64,
    }
}

/// Drops `n` pins in the inode of this mapping by its batch, if that can be. They may be the kernel's own
/// retries (a pin call of this thread is under way), which were never counted.
#[inline(always)]
fn is_batched<P: Pointer>(mapping: P, n: u64) -> bool {
    match InodeRef::batch_of_mapping(mapping) {
        Some(batch) if !calls::under_way() => batch.drop(n),
        _ => false,
    }
}

/// Credits `n` dropped references to the process that owned them; `mapping` as for
/// [`books::open_batch`].
#[inline(always)]
fn credit(key: u64, n: u64, mapping: u64) {
    if key != 0 {
        release_credit(key, n, mapping);
    }
}

/// `n` pins of the inode with this number were dropped, and no hook saw it.
#[inline(always)]
pub fn missed(number: u64, n: u64) {
    release_credit(number, n, MISSED);
}

/// In the place of a mapping: these are gone, whatever the thread is inside of by the records.
const MISSED: u64 = u64::MAX;

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn release_credit(key: u64, n: u64, mapping: u64) -> i64 {
    let inode = if (key as i64) < 0 {
        InodeRef::find(key)
    } else {
        InodeRef::find_number(key)
    };
    let Some(inode) = inode else { return 0 };
    let is_missed = mapping == MISSED;
    if pins(inode.word()) == 0 || !is_missed && calls::under_way() {
        return 0;
    }
    let mapping = if is_missed { 0 } else { mapping };
    if inode.drop_by_batch(n) {
        // Another file had the hint.
        inode.be_found_by(mapping);
        return 0;
    }
    let owed = common::how_much_is_owed(inode);
    let uncounted = common::release(inode, n, Term::Unknown);
    count(Count::Unpinned, n - uncounted);
    if uncounted > 0 {
        lost(Count::Excess, uncounted, key);
    }
    let owed_now = common::how_much_is_owed(inode);
    if owed_now > owed {
        // Others may owe at the same time.
        lost(
            Count::Unattributed,
            (owed_now - owed).min(n - uncounted),
            key,
        );
    }
    let number = inode.number();
    books::open_batch(number, mapping);
    0
}
