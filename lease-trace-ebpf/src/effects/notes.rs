//! Notes: what is to be judged before the program ends, where there is stack left. `judge` reads them.

use aya_ebpf::bindings::BPF_NOEXIST;
pub use lease_trace_common::note::MOST;
use lease_trace_common::{count::Count, logged::Logged, note, policy::on};

use crate::{
    kernel::current,
    state::{
        losses::logged,
        maps::{PENDING, Pending, count},
        policy,
        stakes::StakeRef,
    },
};

/// Leaves a note: this stake is in breach (a `policy::on` bit and how the lease went), or, with a
/// lease that lasts (cause 0), may have to be held.
#[inline(always)]
pub fn leave(stake: StakeRef, slot: u32, on: u32, cause: u32) {
    if policy::header().rules() > 0 {
        note(
            u64::from(stake.key.tgid) | u64::from(on) << 32 | u64::from(cause) << 40,
            u64::from(slot),
            stake.key.inode,
        );
    }
}

/// The first pins of a stake, and no lease covers them.
#[inline(always)]
pub fn leave_bare(stake: StakeRef, slot: u32) {
    if policy::header().bare_pins() {
        leave(stake, slot, on::BARE_PIN, 0);
    }
}

/// 0 if there was room for it.
#[inline(always)]
pub fn note(packed: u64, slot: u64, inode_id: u64) -> i64 {
    notes_note(packed, slot, inode_id)
}

/// 0 if there was room for it. A global function, verified separately.
#[unsafe(no_mangle)]
extern "C" fn notes_note(packed: u64, slot: u64, inode_id: u64) -> i64 {
    let key = of_thread();
    for n in 0..MOST {
        if PENDING.insert(key + n, &BLANK, BPF_NOEXIST.into()).is_ok()
            && let Some(note) = PENDING.get_ptr_mut(key + n)
        {
            // SAFETY: a map value, whose memory is that of a note as long as the program runs.
            unsafe {
                (*note).key = key + n;
                (*note).inode_id = inode_id;
                (*note).slot = slot;
                (*note).tgid = packed as u32;
                (*note).cause = (packed >> 40) as u32;
                (*note).facts.on = (packed >> 32) as u32 & 0xff;
            }
            return 0;
        }
    }
    count(Count::ActionsFailed, 1);
    logged(Logged::Unjudged, 1, inode_id);
    -1
}

static BLANK: Pending = {
    // SAFETY: `Pending` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
};

/// Key of the thread's first note.
#[inline(always)]
pub fn of_thread() -> u64 {
    note::first(current::pid_tgid() as u32)
}
