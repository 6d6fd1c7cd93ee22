//! Leases changed and ended, as hooks see it or as it is found out; and what is told of leases.

use core::ffi::c_void;

use lease_trace_common::{
    COMM_LEN,
    cause::Cause,
    count::Count,
    event::EventKind,
    idle::IDLE,
    lease::{F_UNLCK, Id, Lease, LeaseKey, known},
    stake::{Inode, Stake, StakeKey, Task},
};

use crate::{
    kernel::{File, FileLease, InodePtr, current},
    state::{
        inodes::{InodeRef, new_id},
        leases::LeaseRef,
        losses::lost,
        maps::walk_stakes,
        stakes::{StakeRef, has_other_owners},
    },
    track::{books, breaks, counts, coverage, ends, inherited, own_leases, path, react},
};

/// `lease_modify` was entered: the one place every release passes. Runs under `flc_lock`.
#[inline(always)]
pub fn modify(lease: FileLease, mode: u32) {
    if mode != F_UNLCK {
        if let Some(found) = lease.id().and_then(LeaseRef::find) {
            // SAFETY: a live map value.
            unsafe { (*found.get_ptr()).info.mode = mode };
        }
        return;
    }
    lease_over(lease.0);
}

/// Stands for the cause that is seen when a lease is let go.
const ASK: u64 = 0;

/// Deletes the entry of a lease that ended, and judges everybody it covered. A global function: verified once, not
/// once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_over(lease: u64) -> i64 {
    let lease = FileLease(lease);
    if let Some(found) = lease.id().and_then(LeaseRef::find) {
        over(found, lease.0, lease.flags(), ASK, 0);
    }
    0
}

/// Does so of a lease that ended just after its entry was made, by a cause that was not seen.
#[inline(always)]
pub fn unseen(id: Id) {
    lease_end_of(id.address, id.inode, u64::from(id.setter));
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end_of(address: u64, inode: u64, setter: u64) -> i64 {
    let id = Id::new(address, inode, setter);
    if let Some(found) = LeaseRef::find(id) {
        over(
            found,
            address,
            found.get().info.flags,
            Cause::Other as u64,
            0,
        );
    }
    0
}

/// The same of a lease that is not there any more, and of whose end nothing is known: the kernel has not listed it
/// for a while.
#[inline(always)]
pub fn lapsed(found: LeaseRef) {
    lost(Count::Healed, 1, found.get().address);
    lease_lapsed(found.key.inode, found.key.by);
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_lapsed(address: u64, by: u64) -> i64 {
    if let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) {
        let Lease { address, info, .. } = found.get();
        over(
            found,
            *address,
            info.flags,
            Cause::Other as u64,
            known::LAPSED,
        );
    }
    0
}

#[inline(always)]
fn over(found: LeaseRef, address: u64, flags: u32, cause: u64, how: u32) {
    let Some(counted) = found.end(address) else {
        return;
    };
    let mut cause = cause;
    if react::tells_of_leases() {
        cause = cause_of(found, cause);
        tell(EventKind::LeaseEnd, found.key, how, cause);
    }
    let Some(inode) = found.inode_by(counted) else {
        found.remove();
        return;
    };
    let is_counted = counted & IDLE == 0;
    let cause = cause_of(found, cause) as u32;
    let mut end = End {
        inode: inode.number(),
        lease: address,
        file: found.get().file,
        setter: found.get().setter.tgid,
        cause,
        set_ns: found.get().info.set_ns,
        facts: ends::facts(&found.get().info, flags, cause) | u64::from(how) << 8,
        left: MOST_LOOKED_AT,
    };
    let is_inherited = found.get().heirs > 0;
    found.remove();
    // What is judged by how many pins there are is judged by those that there are.
    books::close_batch(inode);
    if is_counted {
        ends::end_lease(
            end.setter,
            inode,
            end.file,
            end.set_ns,
            end.facts,
            &mut end.left,
        );
    }
    if is_inherited || has_other_owners(inode, end.setter) {
        walk_stakes(end_for_other, &mut end);
    }
    // Found again, to spare the stack; while it counts the lease it is there.
    let Some(inode) = InodeRef::find_number(end.inode) else {
        return;
    };
    if is_counted {
        inode.drop_lease();
    }
    inode.forget_if_empty();
}

/// How the lease ends: as is known already, unless that is [`ASK`].
#[inline(always)]
fn cause_of(found: LeaseRef, known: u64) -> u64 {
    if known != ASK {
        return known;
    }
    let lease = found.get();
    lease_cause(lease.file, lease.address, u64::from(lease.is_kernels())) as u64
}

/// A global function, verified separately: checked once, not at each place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_cause(file: u64, lease: u64, is_kernels: u64) -> i64 {
    let cause = current::cause(File(file), FileLease(lease).flags(), is_kernels != 0);
    cause as i64
}

/// Deletes the entry of a lease without judging anybody.
#[inline(always)]
pub fn forget(id: Id) {
    lease_forget(id.address, id.inode, u64::from(id.setter));
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
extern "C" fn lease_forget(address: u64, inode: u64, setter: u64) -> i64 {
    let id = Id::new(address, inode, setter);
    let Some(found) = LeaseRef::find(id) else {
        return 0;
    };
    let Some(counted) = found.end(address) else {
        return 0;
    };
    found.remove();
    if counted & IDLE == 0 {
        own_leases::forget(counted, id.setter);
    }
    0
}

/// The end of a lease, as everybody it covered is told.
struct End {
    /// The inode's record, see [`InodeRef::number`].
    inode: u64,
    lease: u64,
    file: u64,
    setter: u32,
    cause: u32,
    set_ns: u64,
    /// As [`facts`] packs them.
    facts: u64,
    /// Descriptors that may be looked at yet: `flc_lock` is held.
    left: u64,
}

/// Descriptors of all processes together that are looked at for one end of a lease: the kernel holds `flc_lock`,
/// a spinlock, meanwhile. So many take less than half a second under emulation (coverage.rs).
const MOST_LOOKED_AT: u64 = 1 << 16;

/// One step of the walk over all stakes: ends the lease for a process that held it without having
/// set it. Who pinned before it came to hold it is found out now.
unsafe extern "C" fn end_for_other(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    end: *mut End,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `lease_over` gave it.
    unsafe {
        let (Some(inode), Some(stake)) = (
            InodeRef::find_number((*end).inode).filter(|inode| inode.id == (*key).inode),
            StakeRef::of_walk(*key, stake),
        ) else {
            return 0;
        };
        if inherited::remove((*end).lease, stake) || came_to_cover(stake, inode, &mut *end) {
            ends::end_lease(
                (*key).tgid,
                inode,
                (*end).file,
                (*end).set_ns,
                (*end).facts,
                &mut (*end).left,
            );
        }
    }
    0
}

/// Whether the lease covered this stake, which was not known: it is counted now, to end there.
#[inline(always)]
fn came_to_cover(stake: StakeRef, inode: InodeRef, end: &mut End) -> bool {
    if stake.key.tgid == end.setter || !coverage::is_bare(stake.word()) || !holds(stake, inode, end)
    {
        return false;
    }
    let change = stake.lease();
    counts::cover(change);
    change.is_made()
}

/// Whether the stake's owner holds the file whose lease ends, or has just dropped the last
/// reference to it.
#[inline(always)]
fn holds(stake: StakeRef, inode: InodeRef, end: &mut End) -> bool {
    let by_last_reference =
        end.cause != Cause::Unlock as u32 && end.cause != Cause::BreakTimeout as u32;
    if by_last_reference {
        stake.key.tgid == current::tgid()
    } else {
        coverage::holds(stake, inode, end.file, &mut end.left)
    }
}

/// Tells of a lease that was set.
#[inline(always)]
pub fn tell_set(key: LeaseKey) {
    if react::tells_of_leases() {
        tell(EventKind::LeaseSet, key, 0, 0);
    }
}

#[inline(always)]
fn tell(kind: EventKind, key: LeaseKey, how: u32, cause: u64) {
    lease_tell(kind as u64, key.inode, key.by, cause, u64::from(how));
}

/// A function of its own, because it is rarely called. A file without a record has a path for as long as it takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_tell(kind: u64, address: u64, by: u64, cause: u64, how: u64) -> i64 {
    let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) else {
        return 0;
    };
    let file = File(found.get().file);
    let record = InodeRef::find(address);
    let mut made = Inode::default();
    let named = if let Some(record) = &record {
        record.get()
    } else {
        let Some(opened) = file.inode() else {
            return 0;
        };
        made.id = new_id();
        made.ino = opened.number();
        made.dev = opened.device();
        &made
    };
    if !path::is_known(named.id) {
        path::record(named.id, Some(file), InodePtr(address));
    }
    let breaker = breaks::breaker(address);
    // SAFETY: a live map value, or none.
    let breaker = breaker.map_or(&NOBODY, |breaker| unsafe { &*breaker });
    let is_seen = how as u32 & known::LAPSED == 0;
    react::lease(kind as u32, named, found, breaker, cause as u32, is_seen);
    if record.is_none() {
        path::forget(named.id);
    }
    0
}

static NOBODY: Task = Task {
    tgid: 0,
    uid: 0,
    cgroup: 0,
    comm: [0; COMM_LEN],
};
