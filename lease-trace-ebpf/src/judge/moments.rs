//! When it is judged. A release that a hook can refuse is judged before it happens ([`before_release`]).
//! Everything else is judged once it has happened: the code that saw it leaves a note, and the program that
//! it ran in reads its notes at its end ([`judge`]), where there is stack left. The end of a lease is seen under
//! `flc_lock`; it is judged when that is free ([`judge_unlocked`]), by what the kernel has pinned.

use core::ffi::c_void;

use lease_trace_common::{
    cause::Cause, control, logged::Logged, policy::on, stake::ZOMBIE, verdict::Moment,
};

use crate::{
    effects::{notes, stack},
    judge::last_cover,
    judge::verdicts::{self, is_to_wait, judge_note},
    kernel::File,
    kernel::args::Decision,
    kernel::current,
    state::inodes::InodeRef,
    state::losses::logged,
    state::maps::{CONTROL, MORE_PINS, PENDING, control_flag, control_word},
    state::policy,
    state::stakes::StakeRef,
    survey::proof::{self, AtOnce},
};

const EBUSY: i64 = 16;

/// The last reference to this file, or its lease, is about to be let go in a way that can be denied:
/// -EBUSY if a rule denies it, else 0.
#[inline(always)]
pub fn before_release(call: Decision, file: File, cause: Cause) -> i64 {
    if !last_cover::is_own(file) {
        return 0;
    }
    stack::keep(call.0);
    let denied = enforce_note_release(file.0, cause as u64) == 0
        && is_to_be_judged(0)
        && judge_note(0, Moment::Before);
    stack::forget();
    // The verifier wants to see what an LSM program can return.
    if denied { -EBUSY } else { 0 }
}

/// Leaves the note that this file's lease is about to go; 0 if it could. A global function, verified separately.
#[unsafe(no_mangle)]
extern "C" fn enforce_note_release(file: u64, cause: u64) -> i64 {
    let tgid = current::tgid();
    let Some((_, lease)) = last_cover::lease_of(File(file)) else {
        return -1;
    };
    let Some(inode) = lease.inode() else {
        return -1;
    };
    let Some(stake) = StakeRef::find(tgid, inode.id) else {
        return -1;
    };
    // As it is now, and as it is told afterwards: its holder may have made another of it.
    if stake.word() & ZOMBIE == 0 {
        let now = &lease.get().info;
        // SAFETY: a map value.
        unsafe {
            let known = &raw mut (*stake.get_ptr()).lease;
            (*known).mode = now.mode;
            (*known).flags = now.flags;
        }
    }
    stake.set_file(file);
    _ = PENDING.remove(notes::of_thread());
    notes::note(
        u64::from(tgid) | u64::from(on::ZOMBIE) << 32 | cause << 40,
        u64::from(inode.slot),
        inode.id,
    )
}

/// Whether this thread has left notes.
#[inline(always)]
fn has_notes() -> bool {
    policy::header().rules() > 0 && PENDING.get_ptr(notes::of_thread()).is_some()
}

/// A lease was set or has ended, and `flc_lock` is held, so that nothing can be looked at: whoever is to be judged is
/// judged here only if there is no place for that afterwards.
#[inline(always)]
pub fn judge_locked(ctx: *mut c_void) {
    if policy::header().rules() == 0 {
        return;
    }
    if !control_flag(control::JUDGES_UNLOCKED) {
        judge(ctx);
    } else if PENDING
        .get_ptr(notes::of_thread() + notes::MOST - 1)
        .is_some()
    {
        judge_doubtful(ctx);
    }
}

/// There is no room for more notes of this thread: one lease covered many processes, or many leases end at once. All but
/// the first are judged as doubtful, so that what they come to is for the monitor to do, which it is mostly anyway:
/// they are others than the current process.
#[inline(never)]
fn judge_doubtful(ctx: *mut c_void) {
    stack::keep(ctx);
    for n in 1..notes::MOST {
        if let Some(note) = PENDING.get_ptr_mut(notes::of_thread() + n) {
            // SAFETY: a live map value of this thread.
            let (slot, inode_id, tgid) = unsafe {
                (*note).doubtful = 1;
                ((*note).slot, (*note).inode_id, (*note).tgid)
            };
            let pins = StakeRef::find(tgid, inode_id).map_or(0, StakeRef::pins);
            logged(Logged::Uncertain, pins, InodeRef::number_of(slot, inode_id));
            judge_note(n, Moment::After);
        }
    }
    stack::forget();
}

/// Judges what was noted under `flc_lock`, by what the kernel has pinned. No lock is held.
#[inline(always)]
pub fn judge_unlocked(ctx: *mut c_void) {
    if control_flag(control::TRIAL) {
        end_trial();
    }
    // Most who come past have nothing to do with leases. A note may be there though nothing is pinned any more.
    if !has_notes() {
        return;
    }
    stack::keep(ctx);
    for n in 0..notes::MOST {
        if !is_bare(n) && is_to_be_judged(n) {
            judge_note(n, Moment::After);
        }
    }
    stack::forget();
}

/// The test at the start has come past here.
#[inline(always)]
fn end_trial() {
    if let Some(word) = CONTROL.get_ptr_mut(control::TRIAL) {
        // SAFETY: a live map value, read and written as a whole word.
        unsafe {
            if *word == u64::from(current::tgid()) {
                *word = 0;
            }
        }
    }
}

/// Judges the first note of this thread, of pins that are orphaned.
#[inline(always)]
pub fn judge_orphan() {
    if is_to_be_judged(0) {
        judge_note(0, Moment::After);
    }
}

/// Whether there is anything to judge in note `n` of this thread, by what the kernel has pinned. If there is not,
/// since nothing is pinned, the note is gone and the books are put right: here, since that goes deep.
#[inline(always)]
fn is_to_be_judged(n: u64) -> bool {
    let counted = enforce_prove(n);
    if counted < 0 {
        // What it is about is gone.
        _ = PENDING.remove(notes::of_thread() + n);
    } else if counted > 0
        && let Some(note) = PENDING.get_ptr(notes::of_thread() + n)
    {
        // SAFETY: a map value, whose memory is that of a note as long as the program runs.
        let number = unsafe { InodeRef::number_of((*note).slot, (*note).inode_id) };
        _ = PENDING.remove(notes::of_thread() + n);
        proof::take_out(number, counted as u64);
    }
    counted == 0
}

/// Holds the books of the inode that note `n` of this thread is about against what the kernel has pinned. Returns
/// how many pins are counted there if none is left, 0 if the note is to be judged, -1 if there is none. A global
/// function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_prove(n: u64) -> i64 {
    let key = notes::of_thread() + n;
    let Some(note) = PENDING.get_ptr_mut(key) else {
        return -1;
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (slot, inode_id, tgid, cause) =
        unsafe { ((*note).slot, (*note).inode_id, (*note).tgid, (*note).cause) };
    // Pins under a lease that lasts are no breach: nobody is judged by how many they are.
    if cause == 0 {
        return 0;
    }
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return -1;
    };
    let pins = StakeRef::find(tgid, inode_id).map_or(0, StakeRef::pins);
    match proof::at_once(inode, tgid) {
        AtOnce::Nothing(counted) => return counted as i64,
        // SAFETY: as above.
        AtOnce::Doubtful => unsafe { (*note).doubtful = 1 },
        AtOnce::AtLeast(certain) => {
            let uncertain = pins.saturating_sub(certain);
            // SAFETY: as above.
            unsafe { (*note).uncertain = uncertain };
            if uncertain > 0 {
                logged(Logged::Uncertain, uncertain, inode.number());
            }
        }
    }
    0
}

/// Reads the notes that this thread left, but for those of leases that have ended, where these are judged elsewhere, and
/// of bare pins. A function of its own, so that its stack is not the caller's.
#[inline(never)]
pub fn judge(ctx: *mut c_void) {
    if !has_notes() {
        return;
    }
    let leaves_ends = control_flag(control::JUDGES_UNLOCKED);
    stack::keep(ctx);
    for n in 0..notes::MOST {
        if let Some(note) = PENDING.get_ptr(notes::of_thread() + n) {
            // SAFETY: a map value, whose memory is that of a note as long as the program runs.
            let (is_end, is_bare) =
                unsafe { ((*note).cause != 0, (*note).facts.on == on::BARE_PIN) };
            if !(is_end && leaves_ends || is_bare) {
                judge_note(n, Moment::After);
            }
        }
    }
    stack::forget();
}

/// Pins were taken: bare ones are judged when the system call has returned, if that is seen.
#[inline(always)]
pub fn judge_bare() {
    if policy::header().bare_pins() {
        enforce_bare();
    }
}

/// A global function, so that it can be left out where nothing is judged, and its stack is not the caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_bare() -> i64 {
    let is_return_seen = is_return_seen();
    for n in 0..notes::MOST {
        if is_bare(n) {
            wait(n, is_return_seen);
        }
    }
    if PENDING
        .get_ptr(notes::of_thread() + notes::MOST - 1)
        .is_some()
    {
        // One call pins many files: there is to be room for more notes. Those that no rule is about yet go first; a monitor
        // does what the others but the first come to.
        for n in 0..notes::MOST {
            let key = notes::of_thread() + n;
            // SAFETY: a live map value of this thread.
            let why = PENDING
                .get_ptr(key)
                .map_or(0, |note| unsafe { (*note).waits });
            if why == MORE_PINS {
                _ = PENDING.remove(key);
            } else if n > 0 {
                judge_note(n, Moment::After);
            }
        }
    }
    0
}

/// Whether note `n` of this thread is about bare pins.
#[inline(always)]
fn is_bare(n: u64) -> bool {
    PENDING.get_ptr(notes::of_thread() + n).is_some_and(|note| {
        // SAFETY: a live map value of this thread.
        unsafe { (*note).facts.on == on::BARE_PIN }
    })
}

/// Lets note `n` of this thread, of bare pins, wait until the system call has returned, if any rule is about them.
#[inline(always)]
fn wait(n: u64, is_return_seen: bool) {
    let key = notes::of_thread() + n;
    let Some(note) = PENDING.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: a live map value of this thread.
    if unsafe { (*note).waits } != 0 {
        return;
    }
    if !verdicts::is_bare_still(n) {
        _ = PENDING.remove(key);
    } else if !is_return_seen {
        judge_note(n, Moment::After);
    } else {
        match is_to_wait(n) {
            0 => _ = PENDING.remove(key),
            // SAFETY: as above.
            why => unsafe { (*note).waits = why },
        }
    }
}

/// Whether [`judge_returned`] is passed when the system call returns that the current task is in.
#[inline(always)]
fn is_return_seen() -> bool {
    let (watched, call) = (control_word(control::JUDGES_RETURNED), current::call());
    let mut numbers = (0..).zip(control::RETURNED);
    !call.compat && numbers.any(|(bit, number)| watched >> bit & 1 != 0 && call.number == number)
}

/// A system call that may have pinned has returned: bare pins that are there now are judged.
#[inline(always)]
pub fn judge_returned() {
    if !policy::header().bare_pins() {
        return;
    }
    for n in 0..notes::MOST {
        if is_bare(n) {
            verdicts::judge_returned(n);
        }
    }
}
