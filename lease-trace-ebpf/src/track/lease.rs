//! Leases set.

use core::ffi::c_void;

use lease_trace_common::{
    lease::{F_RDLCK, F_UNLCK, Id, Lease, LeaseInfo, LeaseKey, known},
    share,
    stake::Task,
    word::Word as _,
};

use crate::{
    kernel::{File, FileLease, InodePtr, TaskPtr, current, leases as kernel_leases},
    state::{
        calls,
        inodes::InodeRef,
        leases::{self, Entered, LeaseRef},
        losses::lost,
        maps::{Call, is_set_on_return, spreads},
        policy,
        stakes::{StakeRef, has_other_owners},
    },
    track::{coverage, over, own_leases, path},
};

/// `lease_setup` was entered: a lease of a process was set or changed. Runs under `flc_lock`, where no
/// task is preempted, so that no lease is missed (on PREEMPT_RT, where one is, it is no fentry that is
/// missed so, or [`leave`] looks again). Those of the kernel's own do not pass here.
#[inline(always)]
pub fn set_up(lease: FileLease) {
    if let Some(file) = lease.file()
        && enter(file, lease, 0) == ENTERED_BESIDE_OTHERS
    {
        // Whom it covers is looked for once the lock is free.
        spreads().add(1);
        calls::keep(Call::new(file.0, calls::TO_SPREAD, F_RDLCK));
    }
}

/// `generic_setlease` was entered.
#[inline(always)]
pub fn begin(call: &Call) {
    if is_found_on_return() || policy::header().has_paths() {
        calls::keep(*call);
    }
}

/// Whether it is looked, when `generic_setlease` returns, if anything was kept for that.
#[inline(always)]
pub fn is_seen_to_return() -> bool {
    spreads().load() != 0 || is_found_on_return() || policy::header().has_paths()
}

/// Whether a lease that the current task sets has to be found when `generic_setlease` returns: one of
/// the kernel's own, and any where [`set_up`] may be missed.
#[inline(always)]
fn is_found_on_return() -> bool {
    is_set_on_return() || current::is_kthread()
}

/// `generic_setlease` returned: if it set a lease that is not entered yet, enters it. And it covers those others
/// who have pins.
#[inline(always)]
pub fn leave(_ctx: *mut c_void, call: &Call, ret: i64) {
    let is_entered = call.pages == calls::TO_SPREAD;
    if is_entered {
        spreads().add(1_u64.wrapping_neg());
    }
    // Else it is kept for what is looked at behind this (judge/paths.rs).
    let is_wanted = is_entered || is_found_on_return();
    if !is_wanted || ret as i32 != 0 || call.flags == F_UNLCK {
        return;
    }
    let file = File(call.start);
    let Some(lease) = kernel_leases::find(file) else {
        return;
    };
    let Some(id) = lease.id_on(file) else {
        return;
    };
    // One that was entered may be just ending: it is not to be entered again.
    if !is_entered && enter(file, lease, 0) != THERE && kernel_leases::find(file).is_none() {
        // It ended before it was entered: its end found nothing to end.
        over::unseen(id);
        return;
    }
    coverage::spread(lease);
}

/// Enters a lease that is older than the tool; `who` is a task that keeps it alive. Its setter is
/// described once a task of that thread group comes along.
#[inline(always)]
pub fn adopt(file: File, lease: FileLease, who: TaskPtr) {
    let Some(id) = lease.id_on(file) else {
        return;
    };
    let entered = enter(file, lease, who.0);
    if entered == THERE {
        lease_describe(lease.0, who.0);
    } else if kernel_leases::find(file).is_none() {
        // It ended while the walk looked at it: as if it had ended before.
        over::forget(id);
    } else if entered == ENTERED_BESIDE_OTHERS {
        coverage::spread(lease);
    }
}

/// Enters a lease, and counts it if its setter has a stake; what became of it. A directory has no pages to pin: its
/// delegations are not entered.
#[inline(always)]
fn enter(file: File, lease: FileLease, adopted_from: u64) -> i64 {
    if !file.inode().is_some_and(InodePtr::is_regular) {
        return THERE;
    }
    let entered = lease_enter(file.0, lease.0, adopted_from);
    if entered == 0 {
        return THERE;
    }
    lease_entered(entered as u64, file.0, lease.0, adopted_from)
}

/// What [`enter`] returns: the entry was there, or is not needed; it was made; and others than its setter have pins
/// in the file.
const THERE: i64 = 0;
const ENTERED: i64 = 1;
const ENTERED_BESIDE_OTHERS: i64 = 2;

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
    over::tell_set(key);
    if entered & AT_ONCE != 0 {
        own_leases::at_once(key, id.setter, TaskPtr(adopted_from));
    }
    if let Some(inode) = InodeRef::find_seldom(id.inode) {
        own_leases::join(key, inode, id.setter, TaskPtr(adopted_from));
        if has_other_owners(inode, id.setter) {
            // The path is that of the newest lease.
            path::record(inode.id, Some(File(file)), InodePtr(id.inode));
            return ENTERED_BESIDE_OTHERS;
        }
    }
    ENTERED
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
/// what is to be done; 0 if the entry was there already, or there is no room. A global function: verified once, not
/// once for each call.
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
        missing_ms: 0,
        user: 0,
        below: 0,
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
    record.user = share::user(record.setter.uid);
    let key = match LeaseRef::make(id, &record) {
        Entered::New(key) => key,
        Entered::Already => {
            lease_renew(file.0, lease.0);
            return 0;
        }
        Entered::NoRoom(which) => {
            lost(which, 1, lease.0);
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

/// A lease was set or changed whose entry is there: if it is on another file, then the end of one that had its
/// address before was missed, and the entry goes on as this one's. A function of its own, because it is rarely
/// called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_renew(file: u64, lease: u64) -> i64 {
    let lease = FileLease(lease);
    let Some(found) = lease.id_on(File(file)).and_then(LeaseRef::find) else {
        return 0;
    };
    // SAFETY: a live map value.
    unsafe {
        let record = found.get_ptr();
        if (*record).file != file {
            (*record).file = file;
            (*record).info.set_ns = current::now();
            (*record).info.flags = lease.flags();
            (*record).info.mode = lease.mode();
            (*record).missing_ms = 0;
        }
    }
    0
}

/// Who set a lease: the current task, or what the task `from` tells about an adopted one.
#[inline(always)]
fn describe_setter(setter: &mut Task, lease: FileLease, from: TaskPtr) {
    setter.tgid = lease.setter();
    if from.0 == 0 {
        // A lease whose entry was lost may be changed by who shares the open file description.
        if setter.tgid == current::tgid() {
            // SAFETY: a reference is valid to write.
            unsafe { current::describe_rest_to(setter) };
        }
        return;
    }
    if setter.tgid == from.tgid() {
        setter.uid = from.uid();
        setter.cgroup = from.cgroup();
        // SAFETY: as above.
        unsafe { from.copy_comm(&raw mut setter.comm) };
    }
}
