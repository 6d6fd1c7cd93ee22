//! Ring-buffer records. A record that finds no room is counted and forgotten: the stakes are
//! right all the same.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use lease_trace_common::{
    PATH_LEN, STACK_LEN,
    count::Count,
    event::{Event, EventKind},
    lease::LeaseInfo,
    stake::{Inode, Path, Task},
};

use crate::{
    maps::{EVENTS, PATHS, count},
    stakes::{InodeRef, StakeRef},
    task,
};

/// Paths up to this many bytes go into a short record.
const SHORT: usize = 256;

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
    pub releaser: &'a Task,
    pub lease: &'a LeaseInfo,
    pub pins: u64,
    pub since_ns: u64,
    pub stack: Option<&'a [u64; STACK_LEN]>,
}

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

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
extern "C" fn notify_stake(kind: u64, slot: u64, tgid: u64, inode_id: u64, pins: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else { return 0 };
    let Some(found) = StakeRef::find(tgid as u32, inode_id) else { return 0 };
    let stake = found.get();
    let current;
    let releaser = if kind == EventKind::AtRest as u64 {
        current = task::describe();
        &current
    } else {
        &stake.releaser
    };
    notify(&Notice {
        kind: kind as u32,
        inode: inode.get(),
        owner: &stake.owner,
        releaser,
        lease: &stake.lease,
        pins,
        since_ns: if kind == EventKind::BarePin as u64 {
            stake.pinned_ns
        } else {
            stake.released_ns
        },
        stack: Some(&stake.stack),
    });
    0
}

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
    count(if written { Count::Events } else { Count::LostRing }, 1);
}

#[inline(always)]
fn write<const N: usize>(notice: &Notice<'_>, path: Option<*const Path>, len: u32) -> bool {
    let Some(mut slot) = EVENTS.reserve::<Record<N>>(0) else { return false };
    let record = slot.as_mut_ptr();
    let mut path_len = 0;
    let mut path_flags = 0;
    if let Some(path) = path
        && len as usize <= N
    {
        // SAFETY: `path` is a live map value whose path ends at PATH_LEN; `record` has room for
        // N bytes, and len <= N.
        unsafe {
            let from = (&raw const (*path).bytes).cast::<u8>().add(PATH_LEN - len as usize);
            if bpf_probe_read_kernel((&raw mut (*record).path).cast(), len, from.cast()) == 0 {
                path_len = len;
                path_flags = (*path).flags;
            }
        }
    }
    // SAFETY: `record` is the reserved slot; every field of the event is written.
    unsafe {
        let event = &raw mut (*record).event;
        (*event).time_ns = task::now();
        (*event).kind = notice.kind;
        (*event).path_len = path_len;
        (*event).path_flags = path_flags;
        (*event).dev = notice.inode.dev;
        (*event).ino = notice.inode.ino;
        (*event).inode_id = notice.inode.id;
        (*event).owner = *notice.owner;
        (*event).releaser = *notice.releaser;
        (*event).lease = *notice.lease;
        (*event).pins = notice.pins;
        (*event).since_ns = notice.since_ns;
        (*event).stack = match notice.stack {
            Some(stack) => *stack,
            None => [0; STACK_LEN],
        };
    }
    slot.submit(0);
    true
}
