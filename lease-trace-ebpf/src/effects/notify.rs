//! Ring-buffer records. A record that finds no room is counted and forgotten: the stakes are
//! right all the same.

use aya_ebpf::{bindings::BPF_RB_FORCE_WAKEUP, helpers::generated::bpf_probe_read_kernel};
use lease_trace_common::{
    PATH_LEN, STACK_LEN,
    cause::Cause,
    context::Context,
    control,
    count::Count,
    event::{Event, EventKind},
    lease::{LeaseInfo, SHORT_PATH},
    policy::{Action, NAME_LEN},
    stake::{Inode, Path, Task},
    verdict::Outcome,
};

use crate::{
    bpf::config::{CONFIG, constant},
    kernel::current,
    kernel::{FileLease, opaque},
    state::inodes::InodeRef,
    state::leases::LeaseRef,
    state::losses::lost,
    state::maps::{EVENTS, PATHS, RING, STACKS, WAKE, control_flag, count},
    state::policy::Match,
    state::stakes::StakeRef,
};

/// Paths up to this many bytes, which are most, go into a short record. The verifier wants the size of a
/// reservation in the ring as a constant, so a longer path takes the room of the longest.
const SHORT: usize = SHORT_PATH;

#[repr(C)]
struct Record<const N: usize> {
    event: Event,
    path: [u8; N],
}

/// What all notifications of one transition have in common.
pub struct Notice<'a> {
    /// [`EventKind`]
    pub kind: u32,
    pub inode: &'a Inode,
    pub owner: &'a Task,
    /// `None`: the current process.
    pub releaser: Option<&'a Task>,
    /// Meant only if the lease was being broken.
    pub breaker: &'a Task,
    pub context: &'a Context,
    pub lease: &'a LeaseInfo,
    pub pins: u64,
    pub since_ns: u64,
    pub pinned_ns: u64,
    pub started_ns: u64,
    pub did: Did,
    /// The policy and the rule, if one matched.
    pub found: Option<Match>,
    pub stack: &'a [u64; STACK_LEN],
}

/// What was done on behalf of a rule.
#[derive(Clone, Copy)]
pub struct Did {
    /// How the lease went, 0 if it did not.
    pub cause: u32,
    /// [`Action`] and [`Outcome`].
    pub action: u32,
    pub outcome: u32,
}

impl Did {
    #[inline(always)]
    pub const fn new(cause: u32, action: Action, outcome: Outcome) -> Self {
        Self {
            cause,
            action: action as u32,
            outcome: outcome as u32,
        }
    }
}

/// A transition that no rule is about.
const NOTHING: Did = Did {
    cause: 0,
    action: 0,
    outcome: 0,
};

/// Notifies of something a stake went through. Who dropped the last pin of a zombie is the
/// current process; who let its lease go is in the stake.
#[inline(always)]
pub fn stake(kind: EventKind, inode: InodeRef, stake: StakeRef, pins: u64) {
    notify_stake(
        kind as u64,
        u64::from(inode.slot),
        u64::from(stake.key.tgid),
        stake.key.inode,
        pins,
    );
}

/// Notifies of pins without a lease and of their end, of which there may be very many: not if it would take the room of
/// breaches.
#[inline(always)]
pub fn bare_pin(kind: EventKind, inode: InodeRef, of: StakeRef, pins: u64) {
    if has_more_than(BARE_PINS) {
        lost(Count::LostRing, 1, of.key.inode);
    } else {
        stake(kind, inode, of, pins);
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn notify_stake(kind: u64, slot: u64, tgid: u64, inode_id: u64, pins: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let Some(found) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    let stake = found.get();
    notify(&Notice {
        kind: kind as u32,
        inode: inode.get(),
        owner: &stake.owner,
        releaser: if kind == EventKind::AtRest as u64 || kind == EventKind::BarePinEnd as u64 {
            None
        } else {
            Some(&stake.releaser)
        },
        breaker: &stake.breaker,
        context: &stake.context,
        lease: &stake.lease,
        pins,
        since_ns: if kind == EventKind::BarePin as u64 || kind == EventKind::BarePinEnd as u64 {
            stake.pinned_ns
        } else {
            stake.released_ns
        },
        pinned_ns: stake.pinned_ns,
        started_ns: stake.started_ns,
        did: NOTHING,
        found: None,
        stack: &stake.stack,
    });
    0
}

/// Notifies of what a rule came to for the stake of this process in this inode; `found` is the word of the [`Match`].
#[inline(always)]
pub fn action(kind: EventKind, slot: u32, tgid: u32, inode_id: u64, found: u64, did: Did) {
    let packed = kind as u64
        | u64::from(did.cause) << 8
        | u64::from(did.action) << 16
        | u64::from(did.outcome) << 24;
    notify_action(packed, u64::from(slot), u64::from(tgid), inode_id, found);
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn notify_action(packed: u64, slot: u64, tgid: u64, inode_id: u64, found: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    let left = stake.pins();
    let stake = stake.get();
    let cause = (packed >> 8) as u32 & 0xff;
    let lease = LeaseInfo {
        cause,
        ..stake.lease
    };
    let stack = STACKS.get_ptr(current::pid_tgid());
    notify(&Notice {
        kind: packed as u32 & 0xff,
        inode: inode.get(),
        owner: &stake.owner,
        // Whoever is current has only found that they are orphaned.
        releaser: (cause == Cause::Orphaned as u32).then_some(&stake.owner),
        breaker: &NOBODY,
        context: &stake.context,
        lease: &lease,
        pins: left,
        since_ns: 0,
        pinned_ns: 0,
        started_ns: stake.started_ns,
        did: Did {
            cause,
            action: (packed >> 16) as u32 & 0xff,
            outcome: (packed >> 24) as u32 & 0xff,
        },
        found: Match::of(found),
        // SAFETY: a live map value of this thread, which nobody else writes.
        stack: stack.map_or(&NO_STACK, |stack| unsafe { &*stack }),
    });
    0
}

/// Whether anybody wants to hear of leases set and ended, and there is room to tell it. It is asked before the lease
/// has been found that it is about, so the log of a loss names the thread only.
#[inline(always)]
pub fn tells_of_leases() -> bool {
    if constant(&CONFIG.tells_of_leases) == 0 || !control_flag(control::ALL_EVENTS) {
        return false;
    }
    if has_more_than(LEASES) {
        lost(Count::LostRing, 1, 0);
        return false;
    }
    true
}

/// Bytes of the ring that what is routine may fill, so that it does not push breaches out: any process may take and
/// drop pins without a lease thousands of times a second. Leases are told only to who asks for them.
const BARE_PINS: u64 = RING as u64 / 4;
const LEASES: u64 = RING as u64 / 2;

/// Whether so much of the ring has not been read yet.
#[inline(always)]
fn has_more_than(bytes: u64) -> bool {
    /// `BPF_RB_AVAIL_DATA` (include/uapi/linux/bpf.h).
    const UNREAD: u64 = 0;
    EVENTS.query(UNREAD) > bytes
}

/// Notifies of a lease set or ended; the current process is the one who ended it, if that was seen.
#[inline(always)]
pub fn lease(kind: u32, inode: &Inode, lease: LeaseRef, breaker: &Task, cause: u32, is_seen: bool) {
    let lease = lease.get();
    let info = LeaseInfo {
        cause,
        flags: if is_seen {
            FileLease(lease.address).flags()
        } else {
            lease.info.flags
        },
        ..lease.info
    };
    notify(&Notice {
        kind,
        inode,
        owner: &lease.setter,
        releaser: if kind == EventKind::LeaseEnd as u32 && is_seen {
            None
        } else {
            Some(&NOBODY)
        },
        breaker,
        context: &NO_CONTEXT,
        lease: &info,
        pins: 0,
        since_ns: info.set_ns,
        pinned_ns: 0,
        started_ns: 0,
        did: NOTHING,
        found: None,
        stack: &NO_STACK,
    });
}

/// Wakes everybody who waits on `WAKE`: pins that a lease covers are gone, or are covered in another
/// way. However many wait, each is woken, since nobody takes a record out but to make room; with no
/// room left, all have been woken and have not looked yet.
#[inline(always)]
pub fn wake() {
    if control_flag(control::WAITED)
        && let Some(mut record) = WAKE.reserve::<u64>(0)
    {
        record.write(0);
        record.submit(BPF_RB_FORCE_WAKEUP.into());
    }
}

static NO_STACK: [u64; STACK_LEN] = [0; STACK_LEN];

static NO_NAME: [u8; NAME_LEN] = [0; NAME_LEN];

static NO_CONTEXT: Context = Context::NONE;

static NOBODY: Task = Task {
    tgid: 0,
    uid: 0,
    cgroup: 0,
    comm: [0; 16],
};

/// Writes the record.
#[inline(always)]
pub fn notify(notice: &Notice<'_>) {
    let path = PATHS.get_ptr(notice.inode.id);
    // SAFETY: a live map value, or none.
    let len = path.map_or(0, |path| unsafe { (*path).len });
    let written = if len as usize <= SHORT {
        write::<SHORT>(notice, path, len)
    } else {
        write::<PATH_LEN>(notice, path, len)
    };
    if written {
        count(Count::Events, 1);
    } else {
        lost(Count::LostRing, 1, notice.inode.id);
    }
}

#[inline(always)]
fn write<const N: usize>(notice: &Notice<'_>, path: Option<*const Path>, len: u32) -> bool {
    let Some(mut slot) = EVENTS.reserve::<Record<N>>(0) else {
        return false;
    };
    let record = slot.as_mut_ptr();
    let mut path_len = 0;
    let mut path_flags = 0;
    let len = opaque(u64::from(len));
    if let Some(path) = path
        && len <= N as u64
    {
        // SAFETY: `path` is a live map value whose path ends at PATH_LEN; `record` has room for
        // N bytes, and len <= N.
        unsafe {
            let from = (&raw const (*path).bytes)
                .cast::<u8>()
                .add(PATH_LEN - len as usize);
            if bpf_probe_read_kernel((&raw mut (*record).path).cast(), len as u32, from.cast()) == 0
            {
                path_len = len as u32;
                path_flags = (*path).flags;
            }
        }
    }
    // SAFETY: `record` is the reserved slot; every field of the event is written.
    unsafe {
        let event = &raw mut (*record).event;
        (*event).time_ns = current::now();
        (*event).kind = notice.kind;
        (*event).path_len = path_len;
        (*event).path_flags = path_flags;
        (*event).dev = notice.inode.dev;
        (*event).ino = notice.inode.ino;
        (*event).inode_id = notice.inode.id;
        copy(&raw mut (*event).owner, notice.owner);
        match notice.releaser {
            Some(releaser) => copy(&raw mut (*event).releaser, releaser),
            None => current::describe_to(&raw mut (*event).releaser),
        }
        let breaker = if notice.lease.is_breaking() {
            notice.breaker
        } else {
            &NOBODY
        };
        copy(&raw mut (*event).breaker, breaker);
        copy(&raw mut (*event).context, notice.context);
        copy(&raw mut (*event).lease, notice.lease);
        (*event).pins = notice.pins;
        (*event).since_ns = notice.since_ns;
        (*event).pinned_ns = notice.pinned_ns;
        (*event).started_ns = notice.started_ns;
        (*event).thread = current::pid_tgid() as u32;
        (*event).action = notice.did.action;
        (*event).outcome = notice.did.outcome;
        (*event).enforced = 0;
        (*event).doubtful = notice.inode.is_doubtful().into();
        (*event).zero = 0;
        (*event).grace_ms = 0;
        copy(&raw mut (*event).rule, &NO_NAME);
        if let Some(found) = notice.found
            && let Some(rule) = found.rule()
        {
            (*event).enforced = 1 - rule.audits;
            (*event).grace_ms = rule.grace_ms;
            copy(&raw mut (*event).rule, &rule.name);
        }
        copy(&raw mut (*event).stack, notice.stack);
    }
    slot.submit(0);
    true
}

/// A copy by a helper, which needs none of the program's stack.
///
/// # Safety
/// `to` has room for a `T` in a live map value or record.
#[inline(always)]
unsafe fn copy<T>(to: *mut T, from: &T) {
    // SAFETY: the caller guarantees `to`; a reference is valid to read.
    unsafe {
        bpf_probe_read_kernel(
            to.cast(),
            size_of::<T>() as u32,
            core::ptr::from_ref(from).cast(),
        )
    };
}
