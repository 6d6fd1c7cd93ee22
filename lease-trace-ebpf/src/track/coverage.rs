//! Leases that cover a process which did not set them: it holds a reference to the leased open file
//! description all the same, by fork or by a message. The setter's own lease is counted in its
//! stake when it is set; these are counted when pins and reference come together, see
//! `lease_trace_common::cover`. With the last pin they are forgotten.
//!
//! References are looked for among the descriptors. A mapping is known only if the pins are taken
//! through it.

use core::ffi::c_void;

use lease_trace_common::{
    count::Count,
    cover,
    lease::Id,
    stake::{Stake, StakeKey, ZOMBIE, leases, pins},
};

use crate::{
    bpf::loops,
    kernel::{
        File, FileLease, InodePtr, TaskPtr, current,
        leases::{find, find_here, number},
    },
    state::{
        inodes::InodeRef,
        leases::LeaseRef,
        losses::lost,
        maps::walk_stakes,
        stakes::{StakeRef, has_other_owners},
    },
    track::{
        counts,
        inherited::{self, Cover},
        react,
    },
};

/// Descriptors of one process, and leases listed of its files, that are looked at in all; a lease held by a descriptor
/// behind them does not cover its pins. Fewer than where a call is judged (`judge/before/close.rs`), since this is done
/// for any process, at each pin that needs it.
const MAX_DESCRIPTORS: u64 = 1 << 16;

/// Lets a process's stake in the inode at this address be covered by the lease on `file`, which the process holds,
/// if there is one.
#[inline(always)]
pub fn add_by_file(tgid: u32, address: u64, file: File) {
    if let Some(lease) = find(file) {
        cover_add(lease.0, u64::from(tgid), address);
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn cover_add(lease: u64, tgid: u64, address: u64) -> i64 {
    let setter = FileLease(lease).setter();
    // Its own is counted otherwise.
    if setter == tgid as u32 {
        return 0;
    }
    let Some(inode) = InodeRef::find(address) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode.id) else {
        return 0;
    };
    let id = Id {
        address: lease,
        inode: address,
        setter,
    };
    if !inherited::is_in_force(id) {
        return 0;
    }
    let of = Cover { stake, lease: id };
    // Looked for again: it takes less than to keep it, and the entry may have become another's.
    let covered = |change| match LeaseRef::find(id) {
        Some(found) => react::covered(stake, stake.get().slot as u32, found.get(), change),
        None => counts::cover(change),
    };
    if !cover::add(of, pins(stake.word()) > 0, covered) {
        lost(Count::LostCovers, 1, lease);
    }
    stake.forget_if_empty();
    0
}

/// Whether leases that the process did not set may cover the pins that its stake is about to have.
#[inline(always)]
pub fn may_be_by_others(stake: StakeRef, inode: InodeRef) -> bool {
    let word = stake.word();
    let own = leases(word);
    (own == 0 || pins(word) == 0) && has_more(inode, own)
}

/// Whether the inode has more leases than these, of a process.
#[inline(always)]
pub fn has_more(inode: InodeRef, own: u64) -> bool {
    // Of a lease on overlayfs the inode with the pages knows by its record only. Of a process with two leases on
    // a file it is not looked whether others have any: its own last as long.
    own < leases(inode.word()) || own < 2 && own < number(InodePtr(inode.get().address))
}

/// Lets a process's stake in the inode with this number be covered by every leased file of that inode among the
/// process's descriptors; how many of these, and of leases listed, were looked at.
#[inline(always)]
pub fn add_by_descriptors(tgid: u32, number: u64) -> u64 {
    let found = cover_search(u64::from(tgid), number, 0, MAX_DESCRIPTORS) as u64;
    found >> LOOKED_AT & (2 * MAX_DESCRIPTORS - 1)
}

/// The same of as many descriptors as are `left`.
#[inline(always)]
pub fn add_by_some_descriptors(tgid: u32, inode: InodeRef, left: &mut u64) {
    let found = cover_search(u64::from(tgid), inode.number(), 0, *left);
    spend(found as u64, inode, left);
}

/// Whether the stake's owner has this file among its descriptors, of which `left` may be looked at yet.
#[inline(always)]
pub fn holds(stake: StakeRef, inode: InodeRef, file: u64, left: &mut u64) -> bool {
    let found = cover_search(u64::from(stake.key.tgid), inode.number(), file, *left) as u64;
    spend(found, inode, left);
    found & FOUND != 0
}

/// Takes what [`cover_search`] has looked at out of what may be; what it left out is told.
#[inline(always)]
fn spend(found: u64, inode: InodeRef, left: &mut u64) {
    *left -= (found >> LOOKED_AT).min(*left);
    if found & (FOUND | LEFT_OUT) == LEFT_OUT {
        lost(Count::LostCovers, 1, inode.id);
    }
}

/// What [`cover_search`] returns: the file was found; there are more descriptors; and above how many, with leases, were
/// looked at.
const FOUND: u64 = 1;
const LEFT_OUT: u64 = 2;
const LOOKED_AT: u32 = 2;

struct Search {
    task: TaskPtr,
    tgid: u32,
    found: u16,
    is_one: bool,
    /// Address of the one file looked for, or of the inode of which it is every leased one.
    of: u64,
    /// Descriptors and leases that may be looked at yet.
    left: u64,
}

/// Looks through the descriptors of a stake's owner, `most` of them. A global function, verified separately, and its
/// stack is free again for what follows.
#[unsafe(no_mangle)]
extern "C" fn cover_search(tgid: u64, number: u64, file: u64, most: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(task) = StakeRef::find(tgid as u32, inode.id).and_then(owner) else {
        return 0;
    };
    let mut search = Search {
        task,
        tgid: tgid as u32,
        found: loops::zero() as u16,
        is_one: file != 0,
        of: if file == 0 { inode.get().address } else { file },
        left: most,
    };
    let all = u64::from(task.descriptors());
    let len = if all > most { most } else { all };
    loops::repeat(len as u32, one_descriptor, &mut search);
    let left_out = if search.left == 0 { LEFT_OUT as i64 } else { 0 };
    (most.wrapping_sub(search.left) as i64) << LOOKED_AT | left_out | i64::from(search.found)
}

/// A task of the stake's owner, if one is known to be there.
#[inline(always)]
fn owner(stake: StakeRef) -> Option<TaskPtr> {
    let current = current::current();
    if current.tgid() == stake.key.tgid {
        return Some(current);
    }
    let Stake {
        task, started_ns, ..
    } = stake.get();
    let task = TaskPtr(*task);
    let is_same = task.0 != 0 && task.tgid() == stake.key.tgid && task.started() == *started_ns;
    if is_same {
        Some(task.with_descriptors())
    } else {
        None
    }
}

unsafe extern "C" fn one_descriptor(index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `cover_search` gave it.
    let search = unsafe { &mut *search.cast::<Search>() };
    if search.left == 0 {
        return 1;
    }
    let rest = search.left - 1;
    loops::keep(&mut search.left, rest);
    let Some(file) = search.task.file(index as u32) else {
        return 0;
    };
    if search.is_one {
        if file.0 == search.of {
            search.found = 1;
            return 1;
        }
        return 0;
    }
    if file.pages_inode().is_none_or(|inode| inode.0 != search.of) {
        return 0;
    }
    if let Some(lease) = find_here(file, &mut search.left) {
        cover_add(lease.0, u64::from(search.tgid), search.of);
    }
    0
}

/// A lease was entered: it covers those who had pins before and hold the leased file.
#[inline(always)]
pub fn spread(lease: FileLease) {
    cover_spread(lease.0);
}

/// A function of its own, so that it shares no stack with what enters the lease.
#[unsafe(no_mangle)]
extern "C" fn cover_spread(lease: u64) -> i64 {
    let Some(found) = FileLease(lease).id().and_then(LeaseRef::find) else {
        return 0;
    };
    let Some(inode) = found.inode() else {
        return 0;
    };
    if !has_other_owners(inode, found.get().setter.tgid) {
        return 0;
    }
    let file = found.get().file;
    let mut spread = Spread {
        inode,
        file,
        lease,
        left: MAX_DESCRIPTORS,
    };
    walk_stakes(spread_to_one, &mut spread);
    0
}

struct Spread {
    inode: InodeRef,
    file: u64,
    lease: u64,
    /// Descriptors of all processes that may be looked at yet.
    left: u64,
}

unsafe extern "C" fn spread_to_one(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    spread: *mut Spread,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `cover_spread` gave it.
    unsafe {
        let inode = (*spread).inode;
        if (*key).inode == inode.id
            && let Some(stake) = StakeRef::of_walk(*key, stake)
            && pins(stake.word()) > 0
            && holds(stake, inode, (*spread).file, &mut (*spread).left)
        {
            cover_add((*spread).lease, u64::from((*key).tgid), inode.get().address);
        }
    }
    0
}

/// Bare pins, as far as is known.
#[inline(always)]
pub fn is_bare(word: u64) -> bool {
    pins(word) > 0 && leases(word) == 0 && word & ZOMBIE == 0
}
