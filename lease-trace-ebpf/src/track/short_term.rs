//! Pins of unknown term. They count only on files that have long-term ones: there, their release could
//! not be told apart.

use core::ffi::c_void;

use lease_trace_common::{
    count::Count,
    stake::{PIN, pins},
};

use crate::{
    bpf::atomic,
    kernel::{self, Backing, Folio, InodePtr, Page},
    state::audit,
    state::inodes::InodeRef,
    state::maps::{PINNED, count},
    track::allowance,
    track::pin,
    track::tally::{self, Tally},
};

/// More references on a folio that is pinned already.
#[inline(always)]
pub fn join_folio(folio: Folio, n: u64) {
    audit::taken(n);
    join_backing(folio, n);
}

/// A call that does not pin for the long term returned the number of pages pinned. Such pins count
/// only on files that have long-term ones: there, their release could not be told apart.
#[inline(always)]
pub fn leave_short_term(array: u64, returned: i64) {
    let pinned = returned as i32;
    if pinned <= 0 || nothing_pinned() {
        return;
    }
    if pinned == 1 {
        join_page(array);
    } else {
        join_pages(array, pinned as u64);
    }
}

/// No file has pins.
#[inline(always)]
fn nothing_pinned() -> bool {
    // SAFETY: a global of this object.
    unsafe { atomic::load(&raw const PINNED) == 0 }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn join_page(array: u64) -> i64 {
    match kernel::element(array, 0) {
        Some(page) => join_backing(Page(page).folio(), 1),
        None => count(Count::LostPages, 1),
    }
    0
}

#[inline(always)]
fn join_backing(folio: Folio, n: u64) {
    if let Some(Backing::File(inode)) = folio.backing() {
        join(inode, n);
    }
}

/// A function of its own, so that its stack is not the caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn join_pages(array: u64, n: u64) -> i64 {
    let mut joins = Joins {
        array,
        tally: Tally::new(),
    };
    joins.tally.close_run();
    tally::for_each_page(n, one_page, &mut joins);
    joins.tally.close_run();
    tally::for_each_entry(join_entry, &mut joins);
    0
}

/// Pages of one call, summed up by inode address.
struct Joins {
    /// `struct page **`.
    array: u64,
    tally: Tally,
}

unsafe extern "C" fn one_page(index: u64, joins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `join_pages` gave it.
    let joins = unsafe { &mut *joins.cast::<Joins>() };
    match pin::inode_of(joins.array, index) {
        Some(inode) => joins.tally.add(inode, 1),
        None => count(Count::LostPages, 1),
    }
    0
}

unsafe extern "C" fn join_entry(index: u64, joins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `join_pages` gave it.
    let joins = unsafe { &*joins.cast::<Joins>() };
    let Some((inode, n)) = joins.tally.entry(index) else {
        return 1;
    };
    join(InodePtr(inode), n);
    0
}

/// Counts pins of unknown term if the inode has pins already.
#[inline(always)]
pub fn join(inode: InodePtr, n: u64) {
    if let Some(inode) = InodeRef::find(inode.0)
        && pins(inode.word()) > 0
    {
        inode.raise(n * PIN);
        inode.add_short_term(n);
        // Whether a pin that goes from now on is the owner's is not known.
        allowance::deduct(inode);
        count(Count::Pinned, n);
    }
}
