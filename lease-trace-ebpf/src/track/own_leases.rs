//! Counts leases in the stakes of those who set them, see `lease_trace_common::idle`.

use lease_trace_common::{
    count::Count,
    idle::{self, Counting},
    lease::LeaseKey,
    stake::pins,
    word::Change,
};

use crate::{
    kernel::{File, InodePtr, TaskPtr, current},
    state::{inodes::InodeRef, leases::LeaseRef, losses::lost, stakes::StakeRef},
    track::{books, counts, path, react},
};

/// A process has a stake in the inode at this address, without leases or pins: counts the lease that it may have
/// set before.
#[inline(always)]
pub fn count_first(address: u64, tgid: u32) {
    count(LeaseKey::first(address, tgid));
}

/// Whether there is a lease that [`count_first`] would count.
#[inline(always)]
pub fn is_idle(inode: InodeRef, tgid: u32) -> bool {
    LeaseRef::at(LeaseKey::first(inode.get().address, tgid))
        .is_some_and(|found| found.get().is_idle() && !found.get().is_kernels())
}

/// Counts a lease whatever its setter has in the inode, and then, with a stake that stays, the first one that he
/// set there.
#[inline(always)]
pub fn at_once(key: LeaseKey, setter: u32, adopted_from: TaskPtr) {
    let mut counted = AGAIN;
    for _ in 0..ATTEMPTS {
        counted = lease_count_at_once(key.inode, key.by, adopted_from.0);
        if counted != AGAIN {
            break;
        }
    }
    if counted == AGAIN {
        lost(Count::LostWait, 1, key.inode);
    }
    if !key.is_first() {
        count(LeaseKey::first(key.inode, setter));
    }
}

/// A lease was set: counts it if its setter has a stake, which an ended process of the same pid may have left.
#[inline(always)]
pub fn join(key: LeaseKey, inode: InodeRef, setter: u32, adopted_from: TaskPtr) {
    if let Some(stake) = StakeRef::find(setter, inode.id) {
        stake.count_same_pid(started(setter, adopted_from));
        count(key);
    }
}

/// Where a record was deleted just then, there is none the next time, or another.
const ATTEMPTS: u32 = 3;

/// Counts a lease that is idle, if its setter has a stake.
#[inline(always)]
pub fn count(key: LeaseKey) {
    for _ in 0..ATTEMPTS {
        match lease_count(key.inode, key.by) {
            AGAIN => {}
            DONE => return,
            late => return take_back(key.inode, late.unsigned_abs()),
        }
    }
    lost(Count::LostWait, 1, key.inode);
}

/// What [`lease_count`] returns: the record or the stake was just made, changed or deleted; below zero whose stake
/// counts a lease too many.
const DONE: i64 = 1;
const AGAIN: i64 = 0;

/// Counts a lease that is idle, if its setter has a stake. A function of its own for the verifier: checked
/// once, not at each turn.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_count(address: u64, by: u64) -> i64 {
    let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) else {
        return DONE;
    };
    let Some(idle) = found.idle() else {
        return DONE;
    };
    if found.get().is_kernels() {
        return DONE;
    }
    let Some(inode) = InodeRef::find(address) else {
        return DONE;
    };
    let Some(stake) = StakeRef::find(found.get().setter.tgid, inode.id) else {
        return DONE;
    };
    let file = found.get().file;
    let counting = idle::count(
        found.counted(),
        idle,
        inode.number(),
        inode.of_leases(),
        stake.of_leases(),
        |change| react::covered(stake, inode.slot, file, &found.get().info, change),
    );
    match counting {
        Counting::Counted => path::record(inode.id, Some(File(file)), InodePtr(address)),
        Counting::Late => return -i64::from(stake.key.tgid),
        Counting::Again => {
            inode.forget_if_empty();
            return AGAIN;
        }
    }
    DONE
}

/// Makes a stake, and counts the lease in it, unless the stake is deleted just then. A function of its own for the
/// verifier, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_count_at_once(address: u64, by: u64, adopted_from: u64) -> i64 {
    let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) else {
        return DONE;
    };
    let (file, setter) = (File(found.get().file), found.get().setter);
    // For as long as the stake is made.
    let Some(inode) = books::add_lease(InodePtr(address)) else {
        return DONE;
    };
    is_opened_by(inode, file);
    StakeRef::make_if_missing(&setter, started(setter.tgid, TaskPtr(adopted_from)), inode);
    count(LeaseKey { inode: address, by });
    inode.drop_lease();
    inode.forget_if_empty();
    i64::from(!found.get().is_idle())
}

/// The record has the numbers of the inode that this file opened, by which its leases are known.
#[inline(always)]
pub fn is_opened_by(inode: InodeRef, file: File) {
    if let Some(opened) = file.inode()
        && opened.0 != inode.get().address
    {
        inode.is_opened_as(opened.number(), opened.device());
    }
}

/// When the setter was started, if the current task or the task `from` is of its thread group.
#[inline(always)]
fn started(setter: u32, from: TaskPtr) -> u64 {
    let task = if from.0 == 0 {
        current::current()
    } else {
        from
    };
    if task.tgid() == setter {
        task.started()
    } else {
        0
    }
}

/// Takes out one lease that this process's stake counts, but has not got.
#[inline(always)]
pub fn take_back(address: u64, tgid: u64) {
    lease_take_back(address, tgid);
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_take_back(address: u64, tgid: u64) -> i64 {
    // It is there: the lease too many keeps it.
    let Some(inode) = InodeRef::find(address) else {
        return 0;
    };
    if let Some(stake) = StakeRef::find(tgid as u32, inode.id) {
        let change = stake.unlease();
        counts::cover(change);
        // Pins that came meanwhile were never covered.
        if change.is(Change::UNCOVERED) && !change.is(Change::WAS_ZOMBIE) {
            react::bare(inode, stake, pins(stake.word()));
        }
        stake.forget_if_empty();
    }
    inode.drop_lease();
    inode.forget_if_empty();
    0
}
