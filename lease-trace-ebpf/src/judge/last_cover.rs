//! What the end of a lease would uncover: whether it is the last that covers somebody's pins.

use core::ffi::c_void;

use lease_trace_common::{
    lease::LeaseKey,
    stake::{Stake, StakeKey},
    word::is_last_cover,
};

use crate::{
    bpf::loops,
    kernel::{File, current, leases},
    state::inodes::InodeRef,
    state::leases::LeaseRef,
    state::maps::{covers, walk_stakes},
    state::stakes::StakeRef,
};

/// Whether the end of this file's lease would leave pins of the current process uncovered. Nobody is refused
/// anything for the pins of others.
#[inline(always)]
pub fn is_own(file: File) -> bool {
    is_own_among(file, &mut { MOST_LISTED })
}

/// The same, by as many leases listed as are `left`: with more it is not known, and the release goes through.
#[inline(always)]
pub fn is_own_among(file: File, left: &mut u64) -> bool {
    // Of all that is closed and unmapped next to nothing has a lease.
    if !file.inode().is_some_and(leases::has_any) {
        return false;
    }
    let found = uncover_own(file.0, *left) as u64;
    let rest = left.saturating_sub(found >> LOOKED_AT);
    loops::keep(left, rest);
    found & OWN != 0
}

/// Leases listed that are looked at in one system call, of all files together.
pub const MOST_LISTED: u64 = 1 << 16;

/// What [`uncover_own`] returns: the lease covers pins of the current process; and above how many were looked at.
const OWN: u64 = 1;
const LOOKED_AT: u32 = 1;

/// A global function, verified separately: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uncover_own(file: u64, most: u64) -> i64 {
    let file = File(file);
    let tgid = current::tgid();
    // First what is found without a walk: there may be many leases.
    let Some(inode) = file
        .pages_inode()
        .and_then(|inode| InodeRef::find_seldom(inode.0))
    else {
        return 0;
    };
    let is_last = StakeRef::find(tgid, inode.id).is_some_and(|stake| is_last_cover(stake.word()));
    if !is_last {
        return 0;
    }
    // Mostly it is the one that the process has set first.
    if let Some(first) = own_first(inode) {
        return i64::from(first.get().file == file.0 && !first.get().is_kernels());
    }
    // One file's leases, however many, use up no more than their part.
    let most = if most > leases::MAX_LEASES {
        leases::MAX_LEASES
    } else {
        most
    };
    let mut left = most;
    let lease = leases::find_here(file, &mut left);
    let looked_at = (most.wrapping_sub(left) as i64) << LOOKED_AT;
    let Some((lease, id)) = lease.and_then(|lease| Some((lease, lease.id_on(file)?))) else {
        return looked_at;
    };
    let Some(found) = LeaseRef::find(id) else {
        return looked_at;
    };
    let is_covered = found.get().setter.tgid == tgid || covers(lease.0, tgid);
    looked_at | i64::from(is_covered && !found.get().is_kernels())
}

/// Whose pins the end of this file's lease would leave uncovered: a thread group, or 0.
#[inline(always)]
pub fn whom(file: File) -> u32 {
    uncover_whom(file.0) as u32
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn uncover_whom(file: u64) -> i64 {
    let Some((lease, found)) = lease_of(File(file)) else {
        return 0;
    };
    if found.get().is_kernels() {
        return 0;
    }
    let Some(inode) = found.inode() else {
        return 0;
    };
    let setter = found.get().setter.tgid;
    if let Some(stake) = StakeRef::find(setter, inode.id)
        && is_last_cover(stake.word())
    {
        return i64::from(setter);
    }
    if found.get().heirs == 0 {
        return 0;
    }
    let inode_id = inode.id;
    let mut search = Heir {
        lease,
        inode_id,
        tgid: loops::zero() as u32,
    };
    walk_stakes(one_heir, &mut search);
    i64::from(search.tgid)
}

/// The entry of the lease that the current process has set first in this inode, if it is counted there.
#[inline(always)]
fn own_first(inode: InodeRef) -> Option<LeaseRef> {
    let key = LeaseKey::first(inode.get().address, current::tgid());
    LeaseRef::at(key).filter(|first| first.get().counted == inode.number())
}

/// The lease on this open file description that the current process has set first, or else the newest, and its entry.
#[inline(always)]
pub fn lease_of(file: File) -> Option<(u64, LeaseRef)> {
    let inode = file
        .pages_inode()
        .and_then(|inode| InodeRef::find_seldom(inode.0));
    // Without a walk: there may be many leases.
    if let Some(first) = inode.and_then(own_first)
        && first.get().file == file.0
    {
        return Some((first.get().address, first));
    }
    let lease = leases::find(file)?;
    Some((lease.0, LeaseRef::find(lease.id_on(file)?)?))
}

/// A process that the lease covers without having set it.
struct Heir {
    lease: u64,
    inode_id: u64,
    tgid: u32,
}

unsafe extern "C" fn one_heir(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    search: *mut Heir,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `uncover_whom` gave it.
    unsafe {
        if (*key).inode == (*search).inode_id
            && is_last_cover((*stake).word)
            && covers((*search).lease, (*key).tgid)
        {
            (*search).tgid = (*key).tgid;
            return 1;
        }
    }
    0
}
