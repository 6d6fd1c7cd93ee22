//! The leases of an inode, as the kernel lists them.

use core::ffi::c_void;

use lease_trace_common::lease::{FL_DELEG, FL_LAYOUT, FL_LEASE};

use crate::bpf::loops;

use super::{
    file::{list_next, list_prev},
    memory::{File, FileLease, InodePtr},
};

/// Leases of one inode looked through for the one on a given file, the newest first; one behind them is not found.
/// Programs look so for several files in one call: an eighth of what such a call may look at in all.
pub const MAX_LEASES: u64 = 1 << 13;

/// How many leases are listed of this inode: 2 stands for any more.
#[inline(always)]
pub fn number(inode: InodePtr) -> u64 {
    let Some(head) = inode.lease_list() else {
        return 0;
    };
    match (list_next(head), list_prev(head)) {
        (Some(first), Some(last)) if first != head => 1 + u64::from(first != last),
        _ => 0,
    }
}

/// Whether any lease is listed of this inode.
#[inline(always)]
pub fn has_any(inode: InodePtr) -> bool {
    inode
        .lease_list()
        .is_some_and(|head| list_next(head).is_some_and(|first| first != head))
}

/// Whether the kernel lists this lease on this file; `None` where that is not seen, because others change the list,
/// or it is long.
#[inline(always)]
pub fn is_listed(lease: FileLease, file: File) -> Option<bool> {
    let Some(head) = file.inode().and_then(InodePtr::lease_list) else {
        return Some(false);
    };
    let mut search = Listed {
        lease,
        head,
        entry: list_prev(head)?,
        found: loops::zero(),
    };
    loops::repeat(MOST_LISTED, is_it, &mut search);
    if search.found != 0 {
        return Some(is_on(lease, file));
    }
    (search.entry == search.head).then_some(false)
}

/// Leases of an inode that [`is_listed`] goes through. It is asked for each of them, so that more would cost
/// their square; whether one behind them is listed is not known.
const MOST_LISTED: u32 = 1 << 10;

struct Listed {
    lease: FileLease,
    head: u64,
    entry: u64,
    /// 1: the lease was found.
    found: u64,
}

unsafe extern "C" fn is_it(_index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `is_listed` gave it.
    let search = unsafe { &mut *search.cast::<Listed>() };
    let entry = search.entry;
    if entry == search.head {
        return 1;
    }
    if FileLease::of_list(entry) == search.lease {
        search.found = 1;
        return 1;
    }
    // 0 is neither the lease nor the head: so it is not known.
    search.entry = before(entry).unwrap_or(0);
    i64::from(search.entry == 0)
}

/// Whether this process has set one of the newest leases that are listed of this inode.
#[inline(always)]
pub fn is_set_by(inode: InodePtr, tgid: u32) -> bool {
    let Some(head) = inode.lease_list() else {
        return false;
    };
    let Some(entry) = list_prev(head) else {
        return false;
    };
    let mut search = Setter {
        head,
        entry,
        tgid,
        found: loops::zero() as u32,
    };
    loops::repeat(MOST_LISTED, is_by_setter, &mut search);
    search.found != 0
}

struct Setter {
    head: u64,
    entry: u64,
    tgid: u32,
    found: u32,
}

unsafe extern "C" fn is_by_setter(_index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `is_set_by` gave it.
    let search = unsafe { &mut *search.cast::<Setter>() };
    if search.entry == search.head {
        return 1;
    }
    if FileLease::of_list(search.entry).setter() == search.tgid {
        search.found = 1;
        return 1;
    }
    match before(search.entry) {
        Some(previous) => search.entry = previous,
        None => return 1,
    }
    0
}

/// The entry before a lease's, if both are in one list.
#[inline(always)]
pub fn before(entry: u64) -> Option<u64> {
    let is_lease = FileLease::of_list(entry).flags() & ANY_KIND != 0;
    list_prev(entry)
        .filter(|previous| is_lease && *previous != entry && list_next(*previous) == Some(entry))
}

/// The newest lease on this open file description.
#[inline(always)]
pub fn find(file: File) -> Option<FileLease> {
    match leases_find(file.0) {
        0 => None,
        lease => Some(FileLease(lease as u64)),
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn leases_find(file: u64) -> i64 {
    find_here(File(file), &mut { MAX_LEASES }).map_or(0, |lease| lease.0 as i64)
}

/// The same among as many leases as are `left`, for a caller with whom calls go as deep as they may.
#[inline(always)]
pub fn find_here(file: File, left: &mut u64) -> Option<FileLease> {
    let head = file.inode().and_then(InodePtr::lease_list)?;
    let entry = list_prev(head).filter(|entry| *entry != head)?;
    let mut search = Search { file, head, entry };
    let most = if *left > MAX_LEASES {
        MAX_LEASES
    } else {
        *left
    };
    let turns = loops::repeat(most as u32, is_on_file, &mut search);
    let lease = FileLease::of_list(search.entry);
    let is_at_end = search.entry == search.head;
    let is_found = !is_at_end && is_on(lease, search.file);
    // One that may be behind the last of so many is left out, and with it all that follows.
    let rest = if is_at_end || is_found {
        left.saturating_sub(turns)
    } else {
        0
    };
    loops::keep(left, rest);
    is_found.then_some(lease)
}

/// Whether this is a lease, not the head of a list, and on this file.
#[inline(always)]
fn is_on(lease: FileLease, file: File) -> bool {
    lease.file() == Some(file) && lease.flags() & ANY_KIND != 0
}

const ANY_KIND: u32 = FL_LEASE | FL_DELEG | FL_LAYOUT;

/// Small, because some who look for a lease have little stack.
struct Search {
    file: File,
    head: u64,
    /// The one to be looked at: in the end the one that was found, else the head or any.
    entry: u64,
}

unsafe extern "C" fn is_on_file(_index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `find` gave it.
    let search = unsafe { &mut *search.cast::<Search>() };
    let entry = search.entry;
    let lease = FileLease::of_list(entry);
    if entry == search.head || is_on(lease, search.file) {
        return 1;
    }
    // Nobody holds `flc_lock` here. A lease that is just taken out leads to itself, or into the list of those that
    // are taken out (fs/locks.c, locks_delete_lock_ctx): then from the end again, for as many turns as are left.
    match before(entry).or_else(|| list_prev(search.head)) {
        Some(previous) => search.entry = previous,
        None => return 1,
    }
    0
}
