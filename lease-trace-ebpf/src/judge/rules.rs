//! The policy held against a breach: which rule is the first to match.
//!
//! Runs only when there is a breach, so that its cost does not matter to anybody who keeps the
//! rule. What can be told from numbers is compared by `lease_trace_common::policy`; paths,
//! cgroups and consumers need the kernel's structures and are compared here.

use core::ffi::c_void;

use lease_trace_common::{
    STACK_LEN,
    below::Below,
    cause::Cause,
    policy::{
        ANY_CAUSE, Header, OTHER_CONSUMER, OWN_BREAK, TEXT_RANGES as TEXT_RANGES_LEN, cause_bit,
        index, kind_bit, mode_bit,
    },
    stake::Stake,
};

use crate::{
    bpf::loops,
    kernel::current,
    kernel::{Dentry, File, InodePtr, TaskPtr, VfsMount, mm_owner, opaque},
    state::inodes::InodeRef,
    state::maps::{ANY_PINS, PENDING, POLICY, Pending, TEXT_RANGES},
    state::policy::{Match, header, rule, since},
    state::stakes::StakeRef,
};

/// Components looked at on the way from a file to the root; a rule for a directory farther up does not match.
/// More than of a path that is shown (`track/path.rs`), since nothing is kept of them.
const MAX_COMPONENTS: u32 = 128;
/// Steps of a binary search through `TEXT_RANGES`.
const HALVINGS: u32 = TEXT_RANGES_LEN.ilog2() + 1;

/// The first rule that matches the stake of a note, of those that are carried out or of those that are not. A global
/// function: verified once, not once for each call. The note is in the map, since the stack has no room for it beside
/// the walks that follow.
#[inline(always)]
pub fn find(note: u64, audits: u64) -> Option<Match> {
    match policy_find(note, audits) as u64 {
        0 => None,
        found => Match::of(policy_of_age(found) as u64),
    }
}

struct Search {
    header: Header,
    /// Of the note in `PENDING`.
    key: u64,
    note: *const Pending,
    stake: *const Stake,
    found: u64,
}

/// The header, with the number of the rule plus one in the place of the number of rules, and only
/// what can be denied to the current task; 0: none matches.
#[unsafe(no_mangle)]
extern "C" fn policy_find(key: u64, audits: u64) -> i64 {
    let header = if audits == 0 {
        header()
    } else {
        header().auditing()
    };
    let Some(note) = PENDING.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: a live map value of this thread.
    let (tgid, inode_id, cause, uncertain) = unsafe {
        (
            (*note).tgid,
            (*note).inode_id,
            (*note).cause,
            (*note).uncertain,
        )
    };
    let Some(stake) = StakeRef::find(tgid, inode_id) else {
        return 0;
    };
    let record = stake.get();
    let owner = owner_task(record);
    // SAFETY: a live map value of this thread; a comm is sixteen bytes of another, aligned for
    // words.
    unsafe {
        (*note).owner = owner.map_or(0, |task| task.0);
        let facts = &raw mut (*note).facts;
        (*facts).kind = kind_bit(record.lease.kind());
        (*facts).mode = mode_bit(record.lease.mode);
        (*facts).cause = if cause == 0 {
            ANY_CAUSE
        } else if cause == Cause::BreakTimeout as u32
            && record.breaker.tgid != 0
            && record.breaker.uid == record.owner.uid
        {
            cause_bit(cause) | OWN_BREAK
        } else {
            cause_bit(cause)
        };
        (*facts).pins = if (*note).waits == ANY_PINS {
            u64::MAX
        } else {
            stake.pins().saturating_sub(uncertain)
        };
        // As it is now; of a process that is gone, as it was.
        let (uid, comm) = match owner {
            Some(task) => (task.uid(), task.comm()),
            None => (record.owner.uid, record.owner.comm),
        };
        (*facts).uid = uid;
        (*facts).gid = owner.and_then(TaskPtr::gid).unwrap_or(u32::MAX);
        let comm = &raw const comm;
        (*facts).comm[0] = comm.cast::<u64>().read_unaligned();
        (*facts).comm[1] = (&raw const (*comm)[8]).cast::<u64>().read_unaligned();
        let before = &raw const record.owner.comm;
        (*facts).comm_before[0] = before.cast::<u64>().read_unaligned();
        (*facts).comm_before[1] = (&raw const (*before)[8]).cast::<u64>().read_unaligned();
    }
    let mut search = Search {
        header,
        key,
        note,
        stake: record,
        found: loops::zero(),
    };
    loops::repeat(header.rules(), one_rule, &mut search);
    // Of the system calls that come through the 32-bit entry only an unlock passes a hook.
    if current::current().is_compat() {
        search.found = Header(search.found)
            .deniable_at_most(cause_bit(Cause::Unlock as u32))
            .0;
    }
    search.found as i64
}

/// A header that says whether its policy is new. A global function, so that its stack is not the caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn policy_of_age(header: u64) -> i64 {
    let age = current::now().abs_diff(since());
    Header(header).of_age(age).0 as i64
}

/// The owner's task, if it is still the process that made the stake.
#[inline(always)]
fn owner_task(stake: &Stake) -> Option<TaskPtr> {
    let current = current::current();
    let task = if current::tgid() == stake.owner.tgid {
        current
    } else {
        mm_owner(stake.mm)?
    };
    if task.tgid() == stake.owner.tgid && task.started() == stake.started_ns {
        Some(task)
    } else {
        None
    }
}

unsafe extern "C" fn one_rule(index: u64, search: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `policy_find` gave it.
    let search = unsafe { &mut *search.cast::<Search>() };
    let Some(rule) = rule(search.header, index as u32) else {
        return 1;
    };
    if rule.acts() != search.header.enforces() {
        return 0;
    }
    // SAFETY: `note` and `stake` are live map values, found by `policy_find`.
    let (note, stake) = unsafe { (&*search.note, &*search.stake) };
    if policy_admits(search.header.0, index, search.key) == 0 {
        return 0;
    }
    if rule.cgroup != 0
        && policy_in_cgroup(note.owner, rule.cgroup, u64::from(rule.cgroup_level)) == 0
    {
        return 0;
    }
    if rule.path_ino != 0 {
        let known = Below(stake.below);
        // Pins that are older than the policy are where they are now.
        let is_below = if known.is_of(search.header) {
            known.rules(search.header) >> (index & 31) & 1 != 0
        } else {
            policy_below(
                stake.file,
                InodeRef::number_of(note.slot, note.inode_id),
                u64::from(rule.path_dev),
                rule.path_ino,
            ) != 0
        };
        if !is_below {
            return 0;
        }
    }
    if rule.consumers != 0 {
        let consumer = policy_consumer(
            u64::from(note.tgid),
            note.inode_id,
            u64::from(search.header.bank() & 1),
        );
        if rule.consumers & 1 << (consumer as u64 & 63) == 0 {
            return 0;
        }
    }
    search.found = search.header.0 & !0xff | ((index & 0x7f) + 1);
    1
}

/// Whether a rule admits the facts of a note. A global function, verified separately: its
/// comparisons are followed once, not in every combination with what comes after them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn policy_admits(header: u64, number: u64, note: u64) -> i64 {
    let (Some(rule), Some(note)) = (rule(Header(header), number as u32), PENDING.get_ptr(note))
    else {
        return 0;
    };
    // SAFETY: a live map value of this thread.
    i64::from(rule.admits(unsafe { &(*note).facts }))
}

/// Whether the task at this address is in a cgroup or below it. A global function, verified separately, like
/// [`policy_admits`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn policy_in_cgroup(task: u64, cgroup: u64, level: u64) -> i64 {
    i64::from(task != 0 && TaskPtr(task).is_in_cgroup(cgroup, level as u32))
}

struct Climb {
    dentry: Dentry,
    /// Address of the `vfsmount`, 0 to stay in the file system.
    mount: u64,
    dev: u32,
    found: u32,
    ino: u64,
}

/// Whether the file lies below (or is) the inode `ino` of the device `dev`: by the mounts through
/// which it was opened, or inside its file system, so that neither a bind mount nor a rename hides
/// it. Of pins that were read page by page no file is known (0): then by a name that the inode with this number has in
/// its file system. A global function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn policy_below(file: u64, number: u64, dev: u64, ino: u64) -> i64 {
    let file = File(file);
    let (dentry, mount) = if number == 0 {
        (file.dentry(), file.mount().map_or(0, |mount| mount.0))
    } else {
        let Some(inode) = InodeRef::find_number(number) else {
            return 0;
        };
        let inode = InodePtr(inode.get().address);
        match file.opened_as(inode) {
            Some((dentry, mount)) => (Some(dentry), mount),
            None => (inode.alias(), 0),
        }
    };
    let Some(dentry) = dentry else {
        return 0;
    };
    let mut climb = Climb {
        dentry,
        mount,
        dev: dev as u32,
        found: loops::zero() as u32,
        ino,
    };
    loops::repeat(MAX_COMPONENTS, one_component, &mut climb);
    if climb.found == 0 {
        climb.dentry = dentry;
        climb.mount = 0;
        loops::repeat(MAX_COMPONENTS, one_component, &mut climb);
    }
    i64::from(climb.found)
}

/// One component. Returns 1 to stop.
unsafe extern "C" fn one_component(_index: u64, climb: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `policy_below` gave it.
    let climb = unsafe { &mut *climb.cast::<Climb>() };
    if let Some(inode) = climb.dentry.inode()
        && inode.number() == climb.ino
        && inode.device() == climb.dev
    {
        climb.found = 1;
        return 1;
    }
    let mount = VfsMount(climb.mount);
    if climb.mount != 0 && mount.root() == Some(climb.dentry) {
        let Some((below, at)) = mount.mountpoint() else {
            return 1;
        };
        climb.mount = below.0;
        climb.dentry = at;
        return 0;
    }
    match climb.dentry.parent() {
        Some(parent) if parent != climb.dentry => climb.dentry = parent,
        _ => return 1,
    }
    0
}

struct Look {
    stake: *const Stake,
    /// Binary search in `TEXT_RANGES`.
    low: u64,
    high: u64,
    address: u64,
    helper: u32,
    found: u32,
    /// The half of `TEXT_RANGES` that belongs to the policy that is looked through.
    half: u64,
}

/// Number of the consumer that took the first pins of a stake, read off their stack; 0 if it is
/// none that the table knows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn policy_consumer(tgid: u64, inode_id: u64, half: u64) -> i64 {
    let Some(stake) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    let mut look = Look {
        stake: stake.get(),
        low: loops::zero(),
        high: loops::zero(),
        address: loops::zero(),
        helper: loops::zero() as u32,
        found: loops::zero() as u32,
        half,
    };
    loops::repeat(STACK_LEN as u32, one_frame, &mut look);
    i64::from(if look.found != 0 {
        look.found
    } else {
        look.helper
    })
}

/// One frame of the stack, innermost first. Returns 1 to stop.
unsafe extern "C" fn one_frame(index: u64, look: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `policy_consumer` gave it.
    let look = unsafe { &mut *look.cast::<Look>() };
    let index = opaque(index) as usize;
    if index >= STACK_LEN {
        return 1;
    }
    // SAFETY: `stake` is a live map value, and the index was checked.
    let address = unsafe { (*look.stake).stack[index] };
    if address == 0 {
        return 1;
    }
    // All but the first are return addresses, which may be the next function's first byte.
    look.address = if index == 0 { address } else { address - 1 };
    let half = look.half as u32 & 1;
    look.low = u64::from(half * TEXT_RANGES_LEN);
    look.high = look.low + POLICY.get(index::TEXT_RANGES[0] + half).map_or(0, |n| *n);
    loops::repeat(HALVINGS, halve, look);
    let Some(range) = TEXT_RANGES.get(look.low.wrapping_sub(1) as u32) else {
        return 0;
    };
    if look.address < range.start || look.address >= range.end {
        return 0;
    }
    if range.helper != 0 {
        if look.helper == 0 {
            look.helper = range.consumer;
        }
        return 0;
    }
    look.found = range.consumer & OTHER_CONSUMER;
    1
}

/// Narrows `low..high` down to the first range that starts behind the address.
unsafe extern "C" fn halve(_index: u64, look: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `one_frame` gave it.
    let look = unsafe { &mut *look.cast::<Look>() };
    if look.low >= look.high {
        return 1;
    }
    let middle = u64::midpoint(look.low, look.high);
    match TEXT_RANGES.get(middle as u32) {
        Some(range) if range.start <= look.address => look.low = middle + 1,
        _ => look.high = middle,
    }
    0
}
