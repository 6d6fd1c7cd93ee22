//! Counts leases in the stakes of those who set them, see `lease_trace_common::idle`.

use lease_trace_common::{
    cause::Cause,
    count::Count,
    idle::{self, Counting},
    lease::{LeaseKey, known},
};

use crate::{
    kernel::{File, InodePtr, TaskPtr, current},
    state::{inodes::InodeRef, leases::LeaseRef, losses::lost, stakes::StakeRef},
    track::{books, counts, ends, path, react},
};

/// A process has a stake in the inode at this address, without leases or pins: counts the lease that it may have
/// set before.
#[inline(always)]
pub fn count_first(address: u64, tgid: u32) {
    count(LeaseKey::first(address, tgid), tgid);
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
    let mut is_idle = true;
    for _ in 0..ATTEMPTS {
        let number = lease_make_stake(key.inode, key.by, adopted_from.0);
        if number == 0 {
            return;
        }
        count(key, setter);
        lease_drop(number as u64);
        is_idle = LeaseRef::at(key).is_some_and(|found| found.get().is_idle());
        if !is_idle {
            break;
        }
    }
    if is_idle {
        lost(Count::LostWait, 1, key.inode);
    }
    if !key.is_first() {
        count(LeaseKey::first(key.inode, setter), setter);
    }
}

/// A lease was set: counts it if its setter has a stake, which an ended process of the same pid may have left.
#[inline(always)]
pub fn join(key: LeaseKey, inode: InodeRef, setter: u32, adopted_from: TaskPtr) {
    if let Some(stake) = StakeRef::find(setter, inode.id) {
        stake.count_same_pid(started(setter, adopted_from));
        count(key, setter);
    }
}

/// Where a record was deleted just then, there is none the next time, or another.
const ATTEMPTS: u32 = 3;

/// Counts a lease that is idle, if its setter has a stake.
#[inline(always)]
fn count(key: LeaseKey, setter: u32) {
    let late = lease_count_until(key.inode, key.by);
    if late != 0 {
        lease_end_late(late as u64, u64::from(setter));
    }
}

/// What is left to be done: the number of the record that counts a lease too many, or 0. A global function,
/// verified separately: checked once, not at each place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_count_until(address: u64, by: u64) -> i64 {
    for _ in 0..ATTEMPTS {
        match lease_count(address, by) {
            AGAIN => {}
            DONE => return 0,
            number => return number,
        }
    }
    lost(Count::LostWait, 1, address);
    0
}

/// What [`lease_count`] returns: the record or the stake was just made, changed or deleted; anything else is the
/// number of the record that counts a lease too many.
const DONE: i64 = 1;
const AGAIN: i64 = 0;

/// Counts a lease that is idle, if its setter has a stake. A global function, verified separately: checked
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
        // Looked for again: the entry may have become another's, if the lease has ended.
        |change| match LeaseRef::at(found.key) {
            Some(found) => react::covered(stake, inode.slot, found.get(), change),
            None => counts::cover(change),
        },
    );
    match counting {
        Counting::Counted => path::record(inode.id, Some(File(file)), InodePtr(address)),
        Counting::Late => return inode.number() as i64,
        Counting::Again => {
            inode.forget_if_empty();
            return AGAIN;
        }
    }
    DONE
}

/// Makes the setter's stake if there is none, and the inode's record, which is there until [`lease_drop`]: its number,
/// 0 if there is no room. A global function, verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_make_stake(address: u64, by: u64, adopted_from: u64) -> i64 {
    let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) else {
        return 0;
    };
    let (file, setter) = (File(found.get().file), found.get().setter);
    let Some(inode) = books::add_lease(InodePtr(address)) else {
        return 0;
    };
    is_opened_by(inode, file);
    if StakeRef::make_if_missing(&setter, started(setter.tgid, TaskPtr(adopted_from)), inode) {
        return inode.number() as i64;
    }
    inode.drop_lease();
    inode.forget_if_empty();
    0
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_drop(number: u64) -> i64 {
    if let Some(inode) = InodeRef::find_number(number) {
        inode.drop_lease();
        inode.forget_if_empty();
    }
    0
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

/// A lease that was counted in this process's stake, by two or as it ended, ends there. If pins came meanwhile, and
/// nothing else covers them, they were taken while it was in force: by whom it was let go is not known here. A
/// function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end_late(number: u64, tgid: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    if let Some(stake) = StakeRef::find(tgid as u32, inode.id) {
        // It was described when it was counted.
        let info = &stake.get().lease;
        let facts = ends::facts(info, info.flags, Cause::Other as u32);
        ends::lease(
            tgid,
            number,
            info.set_ns,
            facts | u64::from(known::LAPSED) << 8,
        );
    }
    inode.drop_lease();
    inode.forget_if_empty();
    0
}

/// One lease of this process is not in force any more, and nobody is judged by that.
#[inline(always)]
pub fn forget(number: u64, tgid: u32) {
    lease_take_back(number, u64::from(tgid));
}

/// A function of its own, because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_take_back(number: u64, tgid: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    if let Some(stake) = StakeRef::find(tgid as u32, inode.id) {
        counts::cover(stake.unlease());
        stake.forget_if_empty();
    }
    inode.drop_lease();
    inode.forget_if_empty();
    0
}
