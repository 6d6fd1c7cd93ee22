//! Leases set, changed and ended.

use core::ffi::c_void;

use lease_trace_common::{
    cause::Cause,
    count::Count,
    event::EventKind,
    idle::{self, IDLE},
    lease::{F_UNLCK, Id, Lease, LeaseInfo, LeaseKey, known},
    owner,
    stake::{Stake, StakeKey, Task, ZOMBIE, leases},
    word,
};

use crate::{
    bpf::mem,
    kernel::{File, FileLease, InodePtr, TaskPtr, current, leases as kernel_leases},
    state::{
        inodes::InodeRef,
        leases::{self, Entered, LeaseRef},
        losses::lost,
        maps::{Call, owner_says, walk_stakes},
        stakes::{StakeRef, has_other_owners},
    },
    track::{books, counts, coverage, inherited, own_leases, path, react},
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
    if let Some(lease) = kernel_leases::find(file)
        && enter(file, lease, 0)
        && kernel_leases::find(file).is_none()
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
    } else if kernel_leases::find(file).is_none() {
        // It ended while the walk looked at it: as if it had ended before.
        lease_forget(lease.0);
    }
}

/// Enters a lease, counts it if its setter has a stake, and lets it cover those others who have pins; false if it
/// was there already. A directory has no pages to pin: its delegations are
/// not entered.
#[inline(always)]
fn enter(file: File, lease: FileLease, adopted_from: u64) -> bool {
    if !file.inode().is_some_and(InodePtr::is_regular) {
        return false;
    }
    let entered = lease_enter(file.0, lease.0, adopted_from);
    if entered != 0 {
        lease_entered(entered as u64, file.0, lease.0, adopted_from);
    }
    entered != 0
}

/// What follows from an entry, as [`lease_enter`] returned it. A function of its own, so that its stack is not the
/// caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_entered(entered: u64, file: u64, lease: u64, adopted_from: u64) -> i64 {
    let lease = FileLease(lease);
    let id = Id {
        address: lease.0,
        inode: entered & !FLAGS,
        setter: lease.setter(),
    };
    let key = if entered & FURTHER == 0 {
        LeaseKey::first(id.inode, id.setter)
    } else {
        LeaseKey::further(id)
    };
    tell(EventKind::LeaseSet, key, || 0);
    if entered & AT_ONCE != 0 {
        own_leases::at_once(key, id.setter, TaskPtr(adopted_from));
    }
    if let Some(inode) = InodeRef::find(id.inode) {
        own_leases::join(key, inode, id.setter, TaskPtr(adopted_from));
        if has_other_owners(inode, id.setter) {
            // The path is that of the newest lease.
            path::record(inode.id, Some(File(file)), InodePtr(id.inode));
            coverage::spread(lease);
        }
    }
    0
}

/// What [`lease_enter`] returns beside the address of the inode.
const FLAGS: u64 = 7;
/// The key is not that of its setter's first lease in the inode.
const FURTHER: u64 = 1;
/// Who pins would not find it, by the key or in the kernel's list of the inode's leases: it is counted at once.
const AT_ONCE: u64 = 2;

/// Describes the setter of an adopted lease by its task. A function of its own, so that its stack
/// is free again for what follows.
#[unsafe(no_mangle)]
extern "C" fn lease_describe(lease: u64, who: u64) -> i64 {
    let who = TaskPtr(who);
    let Some(found) = FileLease(lease).id().and_then(LeaseRef::find) else {
        return 0;
    };
    // SAFETY: a live map value; only a walk describes setters it did not see before.
    unsafe {
        let record = found.get_ptr();
        if (*record).setter.tgid == who.tgid() && (*record).setter.comm[0] == 0 {
            (*record).setter = current::describe_other(who);
            if let Some(inode) = found.inode()
                && let Some(stake) = StakeRef::find(who.tgid(), inode.id)
            {
                stake.set_owner(&(*record).setter, who.started());
            }
        }
    }
    0
}

/// Makes the entry of a lease: one that the current task has just set, or, with the address of a task that
/// keeps it alive, one that is older than the tool. Returns the address of the inode that has the pages, and
/// what is to be done; 0 if the entry was there already, or there is no room. A function of its own for the
/// verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_enter(file: u64, lease: u64, adopted_from: u64) -> i64 {
    let (file, lease) = (File(file), FileLease(lease));
    let Some(id) = lease.id_on(file) else {
        return 0;
    };
    let adopted = adopted_from != 0;
    let kernel = !adopted && current::is_kthread();
    let mut record = Lease {
        address: lease.0,
        file: file.0,
        counted: leases::next_idle(),
        heirs: 0,
        info: LeaseInfo {
            set_ns: if adopted { 0 } else { current::now() },
            flags: lease.flags(),
            mode: lease.mode(),
            cause: 0,
            known: known::LEASED | if kernel { known::KERNEL } else { 0 },
        },
        setter: Task::default(),
    };
    describe_setter(&mut record.setter, lease, TaskPtr(adopted_from));
    let key = match LeaseRef::make(id, &record) {
        Entered::New(key) => key,
        Entered::Already => return 0,
        Entered::NoRoom => {
            lost(Count::LostLeases, 1, lease.0);
            return 0;
        }
    };
    let is_opened = file.inode().is_none_or(|opened| opened.0 == id.inode);
    let flags = match (key.is_first(), is_opened) {
        (true, true) => 0,
        (true, false) => AT_ONCE,
        (false, _) => FURTHER | AT_ONCE,
    };
    (id.inode | if kernel { flags & FURTHER } else { flags }) as i64
}

/// Tells of a lease that was set or ends, if anybody wants to know.
#[inline(always)]
fn tell(kind: EventKind, key: LeaseKey, cause: impl Fn() -> u64) {
    if react::tells_of_leases() {
        lease_tell(kind as u64, key.inode, key.by, cause());
    }
}

/// A function of its own, because it is rarely called: for as long as it takes the file has a record, and a path.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_tell(kind: u64, address: u64, by: u64, cause: u64) -> i64 {
    let Some(found) = LeaseRef::at(LeaseKey { inode: address, by }) else {
        return 0;
    };
    let file = File(found.get().file);
    let Some(inode) = books::add_lease(InodePtr(address)) else {
        return 0;
    };
    own_leases::is_opened_by(inode, file);
    if !path::is_known(inode.id) {
        path::record(inode.id, Some(file), InodePtr(address));
    }
    react::lease(kind as u32, inode, found, cause as u32);
    inode.drop_lease();
    inode.forget_if_empty();
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
    lease_over(lease.0, ASK);
}

/// Stands for the cause that is seen when a lease is let go.
const ASK: u64 = u64::MAX;

/// Deletes the entry of a lease that ended, and judges everybody it covered. A function of its own for the
/// verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn lease_over(lease: u64, cause: u64) -> i64 {
    let lease = FileLease(lease);
    let Some(found) = lease.id().and_then(LeaseRef::find) else {
        return 0;
    };
    let cause = if cause == ASK { 0 } else { cause };
    tell(EventKind::LeaseEnd, found.key, || cause_of(found, cause));
    let Some(counted) = idle::end(found.counted()) else {
        return 0;
    };
    let Some(inode) = found.inode_by(counted) else {
        found.remove();
        return 0;
    };
    let is_counted = counted & IDLE == 0;
    let cause = cause_of(found, cause) as u32;
    let mut end = End {
        inode: inode.number(),
        lease: lease.0,
        file: found.get().file,
        setter: found.get().setter.tgid,
        cause,
        set_ns: found.get().info.set_ns,
        facts: facts(&found.get().info, lease.flags(), cause),
    };
    let is_inherited = found.get().heirs > 0;
    found.remove();
    // What is judged by how many pins there are is judged by those that there are.
    books::close_batch(inode);
    if is_counted {
        end_lease(end.setter, inode, end.file, end.set_ns, end.facts);
    }
    if is_inherited || has_other_owners(inode, end.setter) {
        walk_stakes(end_for_other, &mut end);
    }
    if is_counted {
        inode.drop_lease();
    }
    // A record may be kept for who wants the leases broken.
    if kernel_leases::number(InodePtr(found.key.inode)) <= 1 {
        inode.forget_if_empty();
    }
    0
}

/// How the lease ends: as is known already, unless that is 0.
#[inline(always)]
fn cause_of(found: LeaseRef, known: u64) -> u64 {
    if known != 0 {
        return known;
    }
    let file = File(found.get().file);
    current::cause(
        file,
        FileLease(found.get().address).flags(),
        found.get().is_kernels(),
    ) as u64
}

/// Deletes the entry of a lease without judging anybody.
#[unsafe(no_mangle)]
extern "C" fn lease_forget(lease: u64) -> i64 {
    let Some(found) = FileLease(lease).id().and_then(LeaseRef::find) else {
        return 0;
    };
    let setter = found.get().setter.tgid;
    let Some(counted) = idle::end(found.counted()) else {
        return 0;
    };
    if counted & IDLE == 0 {
        own_leases::take_back(found.key.inode, u64::from(setter));
    }
    found.remove();
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
