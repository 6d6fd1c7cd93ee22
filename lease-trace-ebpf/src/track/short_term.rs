//! Pins of unknown term. They count only on files that have long-term ones: there, their release could
//! not be told apart.

use core::ffi::c_void;

use lease_trace_common::{books as common, count::Count, word::Word as _};

use crate::{
    kernel::{self, Backing, Folio, InodePtr, Owner, Page},
    state::{
        cross_check,
        inodes::InodeRef,
        losses::lost,
        maps::{count, nothing_pinned},
    },
    track::runs::{self, Run},
};

/// More references on a folio that is pinned already.
#[inline(always)]
pub fn join_folio(folio: Folio, n: u64) {
    cross_check::taken(n);
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

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn join_page(array: u64) -> i64 {
    match kernel::element(array, 0) {
        Some(page) => join_backing(Page(page).folio(), 1),
        None => lost(Count::LostPages, 1, array),
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
        run: Run::new(),
    };
    runs::for_each_page(array, n, one_page, &mut joins);
    join_run(joins.run.end());
    0
}

/// Pages of one call; runs are by the inode's address.
struct Joins {
    /// `struct page **`.
    array: u64,
    run: Run,
}

unsafe extern "C" fn one_page(index: u64, joins: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `join_pages` gave it.
    let joins = unsafe { &mut *joins.cast::<Joins>() };
    let inode = match kernel::owner_of(joins.array, index) {
        Owner::Inode(inode) => inode,
        Owner::Nobody | Owner::Unknown => 0,
        Owner::Unreadable => {
            lost(Count::LostPages, 1, joins.array);
            return 0;
        }
    };
    join_run(joins.run.add(inode));
    0
}

#[inline(always)]
fn join_run(run: Option<(u64, u64)>) {
    if let Some((inode, n)) = run {
        short_term_join(inode, n);
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn short_term_join(inode: u64, n: u64) -> i64 {
    join(InodePtr(inode), n);
    0
}

/// Counts pins of unknown term if the inode is tracked.
#[inline(always)]
pub fn join(inode: InodePtr, n: u64) {
    let Some(inode) = InodeRef::find(inode.0) else {
        return;
    };
    // As for others, before they are in the word.
    inode.turns().add(1);
    if common::enter(inode, n).is_made() {
        common::leave_unowned(inode, n);
        // Whether a pin that goes from now on is the owner's is not known.
        common::close_batch(inode);
        count(Count::Pinned, n);
    }
}
