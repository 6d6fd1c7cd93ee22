//! Leases set, changed and ended.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    cause::Cause,
    count::Count,
    lease::{F_UNLCK, Lease, LeaseInfo, known},
    owner,
    stake::{Stake, StakeKey, Task, ZOMBIE, leases},
    word,
};

use crate::{
    bpf::mem,
    kernel::{File, FileLease, TaskPtr, current, leases},
    state::{
        inodes::InodeRef,
        losses::lost,
        maps::{Call, LEASES, owner_says, walk_stakes},
        stakes::{StakeRef, has_other_owners},
    },
    track::{books, counts, coverage, inherited, path, react},
};

/// `lease_setup` was entered: a lease of a process was set or changed. Runs under `flc_lock`, where no
/// task is preempted, so that no lease is missed. Those of the kernel's own do not pass here.
#[inline(always)]
pub fn set_up(lease: FileLease) {
    if let Some(file) = lease.file() {
        enter(file, lease, 0);
    }
}

/// Whether a lease that the current task sets has to be found when `generic_setlease` returns: one of
/// the kernel's own, and any where [`set_up`] may be missed.
#[inline(always)]
pub fn is_found_on_return() -> bool {
    owner_says(owner::SET_ON_RETURN) || current::is_kthread()
}

/// `generic_setlease` returned: if it set a lease that is not entered yet, enters it.
#[inline(always)]
pub fn leave(_ctx: *mut c_void, call: &Call, ret: i64) {
    if ret as i32 != 0 || call.flags == F_UNLCK {
        return;
    }
    let file = File(call.start);
    if let Some(lease) = leases::find(file)
        && enter(file, lease, 0)
        && leases::find(file).is_none()
    {
        // It ended before it was entered: its end found nothing to end.
        lease_over(lease.0, Cause::Other as u64);
    }
}

/// Enters a lease that is older than the tool; `who` is a task that keeps it alive. Its setter is
/// described once a task of that thread group comes along.
#[inline(always)]
pub fn adopt(file: File, lease: FileLease, who: TaskPtr) {
    if !enter(file, lease, who.0) {
        lease_describe(lease.0, who.0);
    } else if leases::find(file).is_none() {
        // It ended while the walk looked at it: as if it had ended before.
        lease_forget(lease.0);
    }
}

/// Enters a lease, and lets it cover those others who have pins; false if it was there already.
#[inline(always)]
fn enter(file: File, lease: FileLease, adopted_from: u64) -> bool {
    let entered = lease_enter(file.0, lease.0, adopted_from);
    if entered == ENTERED_BESIDE_OTHERS {
        coverage::spread(lease);
    }
    entered != 0
}

/// Describes the setter of an adopted lease by its task. A function of its own, so that its stack
/// is free again for what follows.
#[unsafe(no_mangle)]
extern "C" fn lease_describe(lease: u64, who: u64) -> i64 {
    let who = TaskPtr(who);
    let Some(found) = LEASES.get_ptr_mut(lease) else {
        return 0;
    };
    // SAFETY: a live map value; only a walk describes setters it did not see before.
    unsafe {
        if (*found).setter.tgid == who.tgid() && (*found).setter.comm[0] == 0 {
            (*found).setter = current::describe_other(who);
            if let Some(stake) = StakeRef::find(who.tgid(), (*found).inode_id) {
                stake.set_owner(&(*found).setter, who.started());
            }
        }
    }
    0
}

/// Enters a lease into the maps: one that the current task has just set, or, with the address of
/// a task that keeps it alive, one that is older than the tool. Returns 0 if it was there already. A
/// function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_enter(file: u64, lease: u64, adopted_from: u64) -> i64 {
    let (file, lease) = (File(file), FileLease(lease));
    if LEASES.get_ptr(lease.0).is_some() {
        return 0;
    }
    let Some(inode_ptr) = file.pages_inode() else {
        return 0;
    };
    let Some(inode) = books::add_lease(inode_ptr) else {
        return 0;
    };
    if let Some(opened) = file.inode()
        && opened != inode_ptr
    {
        inode.is_opened_as(opened.number(), opened.device());
    }
    let adopted = adopted_from != 0;
    let kernel = !adopted && current::is_kthread();
    let id = inode.id;
    let mut record = Lease {
        file: file.0,
        slot: u64::from(inode.slot),
        inode_id: id,
        info: LeaseInfo {
            set_ns: if adopted { 0 } else { current::now() },
            flags: lease.flags(),
            mode: lease.mode(),
            cause: 0,
            known: known::LEASED | if kernel { known::KERNEL } else { 0 },
        },
        setter: Task::default(),
        heirs: 0,
        counted: 0,
    };
    describe_setter(&mut record.setter, lease, TaskPtr(adopted_from));
    if !kernel {
        let started = started(record.setter.tgid, TaskPtr(adopted_from));
        record.counted = u64::from(cover_setter(inode, &record, started));
    }
    if LEASES.insert(lease.0, &record, BPF_NOEXIST.into()).is_err() {
        // Entered by another CPU in the meantime, or no room.
        if LEASES.get_ptr(lease.0).is_none() {
            lost(Count::LostLeases, 1, lease.0);
        }
        lease_take_back(setter_if_counted(&record), record.slot, id);
        return 0;
    }
    path::record(id, Some(file), inode_ptr);
    react::lease_set(lease);
    if has_other_owners(inode, record.setter.tgid) {
        ENTERED_BESIDE_OTHERS
    } else {
        ENTERED
    }
}

/// What [`lease_enter`] returns of a lease that was not there yet, the latter if processes other than its
/// setter have pins in the file.
const ENTERED: i64 = 1;
const ENTERED_BESIDE_OTHERS: i64 = 2;

/// Counts a lease in its setter's stake, made if there is none; false if there is no room.
#[inline(always)]
fn cover_setter(inode: InodeRef, lease: &Lease, started: u64) -> bool {
    let Some((stake, change)) = StakeRef::find_and_lease(&lease.setter, started, inode) else {
        return false;
    };
    react::covered(stake, inode.slot, lease.file, &lease.info, change);
    true
}

/// The process in whose stake a lease is counted, 0: in nobody's.
#[inline(always)]
fn setter_if_counted(lease: &Lease) -> u64 {
    if lease.counted == 0 {
        0
    } else {
        u64::from(lease.setter.tgid)
    }
}

/// Takes back what was counted for a lease of the process `setter` (0: of nobody) without judging anybody.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_take_back(setter: u64, slot: u64, inode_id: u64) -> i64 {
    if setter != 0
        && let Some(stake) = StakeRef::find(setter as u32, inode_id)
    {
        counts::cover(stake.unlease());
        stake.forget_if_empty();
    }
    if let Some(inode) = InodeRef::find_slot(slot, inode_id) {
        inode.drop_lease();
        inode.forget_if_empty();
    }
    0
}

/// Who set a lease: the current task, or what the task `from` tells about an adopted one.
#[inline(always)]
fn describe_setter(setter: &mut Task, lease: FileLease, from: TaskPtr) {
    if from.0 == 0 {
        // SAFETY: a reference is valid to write.
        unsafe { current::describe_to(setter) };
        return;
    }
    setter.tgid = lease.setter();
    if setter.tgid == from.tgid() {
        setter.uid = from.uid();
        setter.cgroup = from.cgroup();
        // SAFETY: as above.
        unsafe { from.copy_comm(&raw mut setter.comm) };
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

/// `lease_modify` was entered: the one place every release passes. Runs under `flc_lock`.
#[inline(always)]
pub fn modify(lease: FileLease, mode: u32) {
    if mode != F_UNLCK {
        if let Some(found) = LEASES.get_ptr_mut(lease.0) {
            // SAFETY: a live map value.
            unsafe { (*found).info.mode = mode };
        }
        return;
    }
    lease_over(lease.0, ASK);
}

/// Stands for the cause that is seen when a lease is let go.
const ASK: u64 = u64::MAX;

/// Takes a lease out of the maps and judges everybody it covered. A function of its own for the
/// verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_over(lease: u64, cause: u64) -> i64 {
    let Some(found) = LEASES.get_ptr(lease) else {
        return 0;
    };
    let cause = if cause == ASK {
        // SAFETY: a live map value.
        let (file, known) = unsafe { ((*found).file, (*found).info.known) };
        let is_kernels = known & known::KERNEL != 0;
        current::cause(File(file), FileLease(lease).flags(), is_kernels) as u64
    } else {
        cause
    };
    react::lease_over(FileLease(lease), cause as u32);
    // SAFETY: a live map value.
    let (slot, id, setter, counted, heirs) = unsafe {
        let Lease {
            slot,
            inode_id,
            setter,
            counted,
            heirs,
            ..
        } = &*found;
        (*slot, *inode_id, setter.tgid, *counted, *heirs)
    };
    let Some(inode) = InodeRef::find_slot(slot, id) else {
        return 0;
    };
    // SAFETY: a live map value.
    let mut end = unsafe {
        End {
            inode: inode.number(),
            lease,
            file: (*found).file,
            setter,
            cause: cause as u32,
            set_ns: (*found).info.set_ns,
            facts: facts(&(*found).info, FileLease(lease).flags(), cause as u32),
        }
    };
    if LEASES.remove(lease).is_err() {
        return 0;
    }
    // What is judged by how many pins there are is judged by those that there are.
    books::close_batch(inode);
    if counted != 0 {
        end_lease(setter, inode, end.file, end.set_ns, end.facts);
    }
    if heirs > 0 || has_other_owners(inode, setter) {
        walk_stakes(end_for_other, &mut end);
    }
    inode.drop_lease();
    inode.forget_if_empty();
    0
}

/// Takes a lease out of the maps without judging anybody.
#[unsafe(no_mangle)]
extern "C" fn lease_forget(lease: u64) -> i64 {
    let Some(found) = LEASES.get_ptr(lease) else {
        return 0;
    };
    // SAFETY: a live map value.
    let (slot, id, setter) =
        unsafe { ((*found).slot, (*found).inode_id, setter_if_counted(&*found)) };
    if LEASES.remove(lease).is_err() {
        return 0;
    }
    lease_take_back(setter, slot, id);
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
}

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
        let tgid = (*key).tgid;
        let (Some(inode), Some(stake)) = (
            InodeRef::find_number((*end).inode).filter(|inode| inode.id == (*key).inode),
            StakeRef::of_walk(*key, stake),
        ) else {
            return 0;
        };
        if inherited::remove((*end).lease, stake) {
            end_lease(tgid, inode, (*end).file, (*end).set_ns, (*end).facts);
        } else if tgid != (*end).setter
            && coverage::is_bare(stake.word())
            && holds(stake, inode, &*end)
        {
            // It covered this stake, which was not known.
            let change = stake.lease();
            counts::cover(change);
            if change.is_made() {
                end_lease(tgid, inode, (*end).file, (*end).set_ns, (*end).facts);
            }
        }
    }
    0
}

/// Whether the stake's owner holds the file whose lease ends, or has just dropped the last
/// reference to it.
#[inline(always)]
fn holds(stake: StakeRef, inode: InodeRef, end: &End) -> bool {
    let by_last_reference =
        end.cause != Cause::Unlock as u32 && end.cause != Cause::BreakTimeout as u32;
    if by_last_reference {
        stake.key.tgid == current::tgid()
    } else {
        coverage::holds(stake, inode, end.file)
    }
}

/// What is told of a lease that ended, in one word.
#[inline(always)]
const fn facts(info: &LeaseInfo, flags: u32, cause: u32) -> u64 {
    (flags as u64) << 32 | (cause as u64) << 16 | (info.known as u64) << 8 | info.mode as u64
}

/// A lease that covered a process's stake is let go by the current process. If pins remain and it
/// was the last: a breach.
#[inline(always)]
fn end_lease(tgid: u32, inode: InodeRef, file: u64, set_ns: u64, facts: u64) {
    if let Some(stake) = StakeRef::find(tgid, inode.id) {
        stake.set_file(file);
        if stake.end_unpinned() {
            stake.forget_if_empty();
            return;
        }
        if word::is_last_cover(stake.word()) && leases(inode.word()) > 1 {
            // Its owner may have come to hold another leased file since it pinned.
            coverage::add_by_descriptors(stake.key.tgid, inode);
        }
    }
    lease_end_describe(u64::from(tgid), inode.number(), set_ns, facts);
    lease_end(
        u64::from(tgid),
        inode.number(),
        u64::from(facts as u32 >> 16),
    );
}

/// Describes the breach that the end of this lease will be, if it is the last of the stake. Before the
/// mark, so that whoever sees the mark sees it, too. All ends of leases of one inode run under its
/// `flc_lock`. A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end_describe(tgid: u64, number: u64, set_ns: u64, facts: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode.id) else {
        return 0;
    };
    let word = stake.word();
    if !word::is_last_cover(word) || word & ZOMBIE != 0 {
        return 0;
    }
    let cause = facts as u32 >> 16;
    let ending = if react::is_ending(cause, tgid as u32) {
        known::ENDING
    } else {
        0
    };
    // SAFETY: a map value.
    unsafe {
        let record = stake.get_ptr();
        let lease = &raw mut (*record).lease;
        (*lease).set_ns = set_ns;
        (*lease).flags = (facts >> 32) as u32;
        (*lease).mode = facts as u32 & 0xff;
        (*lease).cause = cause;
        (*lease).known = (facts as u32 >> 8 & 0xff) | ending;
        current::describe_to(&raw mut (*record).releaser);
        mem::copy(&raw mut (*record).breaker, &inode.get().breaker);
        (*record).released_ns = current::now();
    }
    0
}

/// The end of the lease itself. A function of its own for the verifier, too.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end(tgid: u64, number: u64, cause: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    if let Some(stake) = StakeRef::find(tgid as u32, inode.id) {
        react::lease_ended(inode, stake, stake.lease_end(), cause as u32);
    }
    0
}
