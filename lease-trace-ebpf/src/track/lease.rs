//! Leases set, changed and ended.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    cause::Cause,
    count::Count,
    event::EventKind,
    lease::{F_UNLCK, Lease, LeaseInfo, known},
    owner,
    stake::{LEASE, Stake, StakeKey, Task},
};

use crate::{
    bpf::loops,
    effects::notify,
    kernel::current,
    kernel::{self, File, FileLease, InodePtr, TaskPtr},
    state::inodes::InodeRef,
    state::maps::{Call, LEASES, count, owner_says},
    state::stakes::{self, StakeRef},
    track::coverage,
    track::path,
};

/// Leases of one inode looked through for the one on a given file.
const MAX_LEASES: u32 = 1 << 16;

/// `lease_setup` was entered: a lease of a process was set or changed. Runs under `flc_lock`, where no
/// task is preempted, so that no lease is missed. Those of the kernel's own do not pass here.
#[inline(always)]
pub fn set_up(lease: FileLease) {
    if let Some(file) = lease.file()
        && LEASES.get_ptr(lease.0).is_none()
    {
        lease_enter(file.0, lease.0, 0);
        coverage::spread(lease);
    }
}

/// Whether a lease that the current task sets has to be found when `generic_setlease` returns: one of
/// the kernel's own, and any where [`set_up`] may be passed by.
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
    if let Some(lease) = find(file)
        && LEASES.get_ptr(lease.0).is_none()
    {
        lease_enter(file.0, lease.0, 0);
        coverage::spread(lease);
        if find(file).is_none() {
            // It ended before it was entered: its end found nothing to end.
            lease_over(lease.0, Cause::Other as u64);
        }
    }
}

/// Enters a lease that is older than the tool; `who` is a task that keeps it alive. Its setter is
/// described once a task of that thread group comes along.
#[inline(always)]
pub fn adopt(file: File, lease: FileLease, who: TaskPtr) {
    if LEASES.get_ptr(lease.0).is_some() {
        lease_describe(lease.0, who.0);
    } else {
        lease_enter(file.0, lease.0, who.0);
        coverage::spread(lease);
        if find(file).is_none() {
            // It ended while the walk looked at it: as if it had ended before.
            lease_forget(lease.0);
        }
    }
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
/// a task that keeps it alive, one that is older than the tool. A function of its own for the
/// verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_enter(file: u64, lease: u64, adopted_from: u64) -> i64 {
    let (file, lease) = (File(file), FileLease(lease));
    let Some(inode_ptr) = file.pages_inode() else {
        return 0;
    };
    let Some(inode) = InodeRef::add(inode_ptr, LEASE) else {
        return 0;
    };
    if let Some(opened) = file.inode()
        && opened != inode_ptr
    {
        inode.is_opened_as(opened);
    }
    let adopted = adopted_from != 0;
    let kernel = !adopted && current::is_kthread();
    let id = inode.get().id;
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
    };
    describe_setter(&mut record.setter, lease, TaskPtr(adopted_from));
    if !kernel {
        let started = started(record.setter.tgid, TaskPtr(adopted_from));
        if let Some(stake) = StakeRef::find_or_make(&record.setter, started, inode) {
            stake.add_lease(inode.slot, file.0, &record.info);
        }
    }
    if LEASES.insert(lease.0, &record, BPF_NOEXIST.into()).is_err() {
        // Entered by another CPU in the meantime, or no room.
        if LEASES.get_ptr(lease.0).is_none() {
            count(Count::LostLeases, 1);
        }
        let setter = if kernel { 0 } else { record.setter.tgid };
        lease_take_back(setter.into(), record.slot, id);
        return 0;
    }
    path::record(id, Some(file), inode_ptr);
    notify::lease(EventKind::LeaseSet, lease, 0);
    0
}

/// Takes back what was counted for a lease of the process `setter` (0: of nobody) without judging anybody.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_take_back(setter: u64, slot: u64, inode_id: u64) -> i64 {
    if setter != 0
        && let Some(stake) = StakeRef::find(setter as u32, inode_id)
    {
        stake.take_back_lease();
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

/// The newest lease on this open file description.
#[inline(always)]
pub fn find(file: File) -> Option<FileLease> {
    match lease_find(file.0) {
        0 => None,
        lease => Some(FileLease(lease as u64)),
    }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_find(file: u64) -> i64 {
    find_here(File(file)).map_or(0, |lease| lease.0 as i64)
}

/// The same for a caller with whom calls go as deep as they may.
#[inline(always)]
pub fn find_here(file: File) -> Option<FileLease> {
    let head = file.inode().and_then(InodePtr::lease_list)?;
    let entry = kernel::list_prev(head).filter(|entry| *entry != head)?;
    let mut search = Search { file, head, entry };
    loops::repeat(MAX_LEASES, is_on_file, &mut search);
    let lease = FileLease::of_list(search.entry);
    let is_found = search.entry != search.head && lease.file() == Some(search.file);
    is_found.then_some(lease)
}

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
    if search.entry == search.head || FileLease::of_list(search.entry).file() == Some(search.file) {
        return 1;
    }
    match kernel::list_prev(search.entry) {
        Some(previous) => search.entry = previous,
        None => return 1,
    }
    0
}

/// `lease_modify` was entered: the one place every release passes. Runs under `flc_lock`.
#[inline(always)]
pub fn modify(lease: FileLease, mode: u32) {
    let Some(found) = LEASES.get_ptr_mut(lease.0) else {
        return;
    };
    if mode != F_UNLCK {
        // SAFETY: a live map value.
        unsafe { (*found).info.mode = mode };
        return;
    }
    // SAFETY: a live map value.
    let (file, known) = unsafe { ((*found).file, (*found).info.known) };
    let cause = current::cause(File(file), lease.flags(), known & known::KERNEL != 0);
    lease_over(lease.0, cause as u64);
}

/// Takes a lease out of the maps and judges everybody it covered. A function of its own for the
/// verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_over(lease: u64, cause: u64) -> i64 {
    let Some(found) = LEASES.get_ptr(lease) else {
        return 0;
    };
    notify::lease(EventKind::LeaseEnd, FileLease(lease), cause as u32);
    // SAFETY: a live map value.
    let (slot, id, setter, heirs) = unsafe {
        let Lease {
            slot,
            inode_id,
            setter,
            heirs,
            ..
        } = &*found;
        (*slot, *inode_id, setter.tgid, *heirs)
    };
    let Some(inode) = InodeRef::find_slot(slot, id) else {
        return 0;
    };
    // SAFETY: a live map value.
    let mut end = unsafe {
        End {
            inode,
            lease,
            file: (*found).file,
            setter,
            cause: cause as u32,
            set_ns: (*found).info.set_ns,
            facts: stakes::facts(&(*found).info, FileLease(lease).flags(), cause as u32),
        }
    };
    if LEASES.remove(lease).is_err() {
        return 0;
    }
    stakes::end_lease(setter, inode, end.file, end.set_ns, end.facts);
    if heirs > 0 || coverage::has_other_owners(inode, setter) {
        loops::stake(end_for_other, &mut end);
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
    let (slot, id, setter) = unsafe { ((*found).slot, (*found).inode_id, (*found).setter.tgid) };
    if LEASES.remove(lease).is_err() {
        return 0;
    }
    lease_take_back(setter.into(), slot, id);
    0
}

/// The end of a lease, as everybody it covered is told.
struct End {
    inode: InodeRef,
    lease: u64,
    file: u64,
    setter: u32,
    cause: u32,
    set_ns: u64,
    /// As [`stakes::facts`] packs them.
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
        let (inode, tgid) = ((*end).inode, (*key).tgid);
        if (*key).inode != inode.get().id {
            return 0;
        }
        let stake = StakeRef::of_walk(*key, stake);
        if coverage::remove((*end).lease, stake) {
            stakes::end_lease(tgid, inode, (*end).file, (*end).set_ns, (*end).facts);
        } else if tgid != (*end).setter && coverage::is_bare(stake.word()) && holds(stake, &*end) {
            stake.count_lease();
            stakes::end_lease(tgid, inode, (*end).file, (*end).set_ns, (*end).facts);
        }
    }
    0
}

/// Whether the stake's owner holds the file whose lease ends, or has just dropped the last
/// reference to it.
#[inline(always)]
fn holds(stake: StakeRef, end: &End) -> bool {
    let by_last_reference =
        end.cause != Cause::Unlock as u32 && end.cause != Cause::BreakTimeout as u32;
    if by_last_reference {
        stake.key.tgid == current::tgid()
    } else {
        coverage::holds(stake, end.inode, end.file)
    }
}
