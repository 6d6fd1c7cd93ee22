//! What comes of a change to a stake's word: who is told, woken, or judged. The one place where `track`
//! has effects, whichever hook made the change.

use core::ffi::c_void;

use lease_trace_common::{
    below::Below,
    count::Count,
    event::EventKind,
    lease::Lease,
    policy::on,
    stake::{Inode, Task, leases},
    word::{BARE, Change},
};

use crate::{
    effects::{context, notes, notify, stack},
    kernel::current,
    state::{
        inodes::InodeRef,
        leases::LeaseRef,
        maps::count,
        stakes::{NO_LEASE, StakeRef},
    },
    track::{counts, inherited},
};

/// The first pins were added, and leases were looked for that cover them. Without one they are bare.
#[inline(always)]
pub fn pinned(inode: InodeRef, stake: StakeRef, change: Change) {
    let word = stake.word();
    if leases(word) > 0 {
        if change.is(Change::BARE) {
            stake.never_bare();
        }
        notes::leave(stake, inode.slot, on::ZOMBIE, 0);
    } else {
        // Unless a lease covered them, and has ended since: then they are a zombie's, and that was told.
        if change.is(Change::BARE) && word & BARE != 0 {
            notify::bare_pin(EventKind::BarePin, inode, stake, change.pins());
        }
        notes::leave_bare(stake, inode.slot);
    }
    told(inode, stake);
}

/// What becomes of a stake that one more lease covers.
#[inline(always)]
pub fn covered(stake: StakeRef, slot: u32, lease: &Lease, change: Change) {
    stake.set_file(lease.file);
    if lease.below != 0 {
        stake.is_below(Below(stake.get().below).joined(Below(lease.below)).0);
    }
    // A zombie is described by the lease that went, until it is at rest.
    if !change.is(Change::WAS_ZOMBIE) {
        // SAFETY: a map value.
        unsafe { (*stake.get_ptr()).lease = lease.info };
    }
    counts::cover(change);
    if change.is(Change::COVERED) {
        // What was ordered since they were bare is over.
        if !change.is(Change::WAS_ZOMBIE) {
            stake.forget_order();
        }
        notify::wake();
        notes::leave(stake, slot, on::ZOMBIE, 0);
    }
}

/// Pins went.
#[inline(always)]
pub fn dropped(inode: InodeRef, tgid: u32, change: Change) {
    if change.is(Change::LAST) {
        react_last(inode.number(), u64::from(tgid), change.0);
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn react_last(number: u64, tgid: u64, change: u64) -> i64 {
    let change = Change(change);
    counts::cover(change);
    notify::wake();
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    // It is there: the change left a guard.
    let Some(stake) = StakeRef::find(tgid as u32, inode.id) else {
        return 0;
    };
    ended(inode, stake, change);
    // Pins that another thread has taken since keep their order, their covers and their hold.
    stake.forget_order_of_past();
    inherited::forget(inode, stake);
    // Whoever holds the file can let it go.
    if stake.unhold() {
        notify::stake(EventKind::Unhold, inode, stake, 0);
    }
    told(inode, stake);
    0
}

/// Tells what ended with the last pin.
#[inline(always)]
fn ended(inode: InodeRef, stake: StakeRef, change: Change) {
    if change.is(Change::AT_REST) {
        rest(inode, stake);
    }
    if change.is(Change::BARE_END) {
        notify::bare_pin(EventKind::BarePinEnd, inode, stake, stake.get().peak);
    }
}

/// A zombie ended: its last pin was dropped.
#[inline(always)]
fn rest(inode: InodeRef, stake: StakeRef) {
    count(Count::AtRest, 1);
    notify::stake(EventKind::AtRest, inode, stake, stake.get().peak);
    // SAFETY: a map value. A lease that was set meanwhile was not described.
    unsafe {
        (*stake.get_ptr()).peak = 0;
        if leases(stake.word()) > 0 {
            (*stake.get_ptr()).lease = NO_LEASE;
        }
    }
}

/// A lease that covered it ended; `cause` says how.
#[inline(always)]
pub fn lease_ended(inode: InodeRef, stake: StakeRef, change: Change, cause: u32) {
    counts::cover(change);
    if !change.is(Change::BREACH) {
        stake.forget_if_empty();
        return;
    }
    if change.is(Change::ZOMBIE) {
        count(Count::Zombies, 1);
        notify::wake();
        notify::stake(EventKind::Zombie, inode, stake, change.pins());
    }
    notes::leave(stake, inode.slot, on::ZOMBIE, cause);
    told(inode, stake);
}

/// What a guarded change came to has been told; the stake is deleted if nothing is left of it.
#[inline(always)]
fn told(inode: InodeRef, stake: StakeRef) {
    let change = stake.told();
    if change.is(Change::AT_REST | Change::BARE_END) {
        ended(inode, stake, change);
        stake.told();
    }
    stake.forget_if_empty();
}

/// Whether the process that let a lease go is the owner of these pins, and ending.
#[inline(always)]
pub fn is_ending(cause: u32, tgid: u32) -> bool {
    lease_trace_common::cause::Cause::is_ending_raw(cause) && tgid == current::tgid()
}

/// Whether anybody wants to hear of leases set and ended.
#[inline(always)]
pub fn tells_of_leases() -> bool {
    notify::tells_of_leases()
}

/// A lease was set, or ends, whomever it covered.
#[inline(always)]
pub fn lease(kind: u32, inode: &Inode, lease: LeaseRef, breaker: &Task, cause: u32, is_seen: bool) {
    notify::lease(kind, inode, lease, breaker, cause, is_seen);
}

/// The first pins are about to be given to this stake: notes the stack of the call, see [`stack::note`].
/// Not a function of its own, which would be a frame of that stack.
#[inline(always)]
pub fn note_stack(ctx: *mut c_void, stake: Option<StakeRef>) -> bool {
    stack::note(ctx, stake)
}

/// Notes the stack in the stake, whatever pins it has.
#[inline(always)]
pub fn note_stack_in(ctx: *mut c_void, stake: StakeRef) {
    stack::note_in(ctx, stake);
}

/// Keeps it for the thread.
#[inline(always)]
pub fn keep_stack(ctx: *mut c_void) {
    stack::keep(ctx);
}

/// Puts the stack that was kept for the thread into the stake.
#[inline(always)]
pub fn move_stack_to(stake: StakeRef) {
    stack::move_to(stake);
}

/// The stack that was kept for the thread is not needed any more.
#[inline(always)]
pub fn forget_stack() {
    stack::forget();
}

/// Notes the file through which the current task takes the first pins of this stake.
#[inline(always)]
pub fn note_context(stake: StakeRef) {
    context::note(stake);
}
