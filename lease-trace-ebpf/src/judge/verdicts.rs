//! The only file that can deny or signal. What is decided is in `lease_trace_common::verdict`;
//! which rule applies is found by `policy`.
//!
//! A release that a hook can refuse is judged before it happens ([`before_release`]). Everything else is
//! judged once it has happened: the code that saw it leaves a note, and the
//! program that it ran in reads its notes at its end ([`judge`]), where there is stack left. The end of a lease is
//! seen under `flc_lock`; it is judged when that is free ([`judge_unlocked`]), by what the kernel has
//! pinned.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_send_signal;
use lease_trace_common::{
    cause::Cause,
    control,
    count::Count,
    event::EventKind,
    policy::{Action, HITS as HITS_OF_RULE, Header, cause_bit, hit, on},
    stake::ZOMBIE,
    verdict::{Moment, Outcome, Situation, Spared, Verdict, decide},
    word::Word as _,
};

use crate::{
    bpf::atomic::At,
    effects::notes,
    effects::notify,
    effects::stack,
    judge::last_cover,
    judge::policy::find,
    kernel::File,
    kernel::args::Decision,
    kernel::current,
    state::inodes::InodeRef,
    state::maps::{CONTROL, HITS, PENDING, control_flag, count, nothing_pinned},
    state::policy::{self, Match},
    state::stakes::StakeRef,
    survey::proof::{self, AtOnce},
};

const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;
const EBUSY: i64 = 16;

/// The machine's first process.
const INIT: u32 = 1;

/// Whether a hook for this release path needs to look at all.
#[inline(always)]
pub fn denies(cause: Cause) -> bool {
    let header = policy::header();
    header.rules() > 0 && header.enforces() && header.deniable() & cause_bit(cause as u32) != 0
}

/// Nothing can be in breach, or nothing is denied here.
#[inline(always)]
pub fn idle(cause: Cause) -> bool {
    nothing_pinned() || !denies(cause)
}

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

#[inline(always)]
fn verdict(found: Match, moment: Moment, cause: u32, spared: Spared, doubtful: bool) -> Verdict {
    let Some(rule) = found.rule() else {
        return Verdict::Pass;
    };
    decide(
        Action::from_raw(rule.action),
        Action::from_raw(rule.fallback),
        &Situation {
            enforce: rule.acts(),
            moment,
            cause,
            deniable: cause != 0 && found.0.deniable() & cause_bit(cause) != 0,
            spared,
            doubtful,
        },
    )
}

/// Whether, and why, this stake's owner or the current task is not to be touched.
#[inline(always)]
fn spared(stake: StakeRef, cause: u32, moment: Moment) -> Spared {
    if stake.key.tgid == INIT {
        return Spared::Init;
    }
    if current::is_kthread() {
        return Spared::No;
    }
    let tgid = current::tgid();
    let is_current = is_current(stake);
    // A release by somebody else who is ending says nothing about the owner of the pins; but
    // whoever is ending is not refused anything.
    let is_meant = is_current || matches!(moment, Moment::Before);
    if cause == Cause::BreakTimeout as u32 {
        // Whoever asked for the file did nothing wrong: its holder did not answer in time.
        Spared::No
    } else if tgid == INIT {
        Spared::Init
    } else if is_tracer(tgid) {
        Spared::Tracer
    } else if is_meant && (current::is_ending() || current::current().is_being_killed()) {
        Spared::Ending
    } else if is_current {
        Spared::No
    } else {
        Spared::Bystander
    }
}

/// The current process is the monitor, not one with the pid of a monitor that ended.
#[inline(always)]
fn is_tracer(tgid: u32) -> bool {
    // USER_HZ is 100 on x86-64 (include/asm-generic/param.h).
    const TICK_NS: u64 = 10_000_000;
    let word = |index| CONTROL.get(index).copied().unwrap_or(0);
    word(control::PID) == u64::from(tgid)
        && word(control::STARTED) == current::current().started() / TICK_NS
}

/// The current process is the one that made the stake, not one with its pid used again.
#[inline(always)]
fn is_current(stake: StakeRef) -> bool {
    current::tgid() == stake.key.tgid && current::current().started() == stake.get().started_ns
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
    if !control_flag(control::JUDGES_UNLOCKED) {
        judge(ctx);
    } else if policy::header().rules() > 0
        && PENDING
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
            unsafe { (*note).doubtful = 1 };
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
    // Most who come past have nothing to do with leases.
    if nothing_pinned() || !has_notes() {
        return;
    }
    stack::keep(ctx);
    for n in 0..notes::MOST {
        if is_to_be_judged(n) {
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

/// Whether there is anything to judge in note `n` of this thread, by what the kernel has pinned. If there is not,
/// since nothing is pinned, the note is gone and the books are put right: here, since that goes deep.
#[inline(always)]
fn is_to_be_judged(n: u64) -> bool {
    let counted = enforce_prove(n);
    if counted > 0
        && let Some(note) = PENDING.get_ptr(notes::of_thread() + n)
    {
        // SAFETY: a live map value; only this thread removes it.
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
    // SAFETY: a live map value; only this thread removes it.
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
        // SAFETY: as above.
        AtOnce::AtLeast(certain) => unsafe { (*note).uncertain = pins.saturating_sub(certain) },
    }
    0
}

/// Reads the notes that this thread left. A function of its own, so that its stack is not the
/// caller's.
#[inline(never)]
pub fn judge(ctx: *mut c_void) {
    if !has_notes() {
        return;
    }
    stack::keep(ctx);
    for n in 0..notes::MOST {
        if PENDING.get_ptr(notes::of_thread() + n).is_some() {
            judge_note(n, Moment::After);
        }
    }
    stack::forget();
}

/// Judges what note `n` of this thread says, by the rules that are carried out and by those that are not; whether
/// the release is denied.
#[inline(always)]
fn judge_note(n: u64, moment: Moment) -> bool {
    let header = policy::header();
    let before = u64::from(matches!(moment, Moment::Before));
    let is_denied = header.enforces() && enforce_judge(n, before, 0) != 0;
    // What is denied will not come again as what has happened.
    if header.audits() && (before == 0 || is_denied) {
        enforce_judge(n, before << 1, 1);
    }
    _ = PENDING.remove(notes::of_thread() + n);
    is_denied
}

/// Judges what note `n` of this thread says, before the release (1), after it (0), or before it as if after it (2): 1 to
/// deny it. By the rules that are carried out, or, with `audits`, by those that are not. A global function,
/// verified separately.
#[unsafe(no_mangle)]
extern "C" fn enforce_judge(n: u64, before: u64, audits: u64) -> i64 {
    let key = notes::of_thread() + n;
    let found = find(key, audits);
    let Some(note) = PENDING.get_ptr(key) else {
        return 0;
    };
    // SAFETY: a live map value; only this thread removes it.
    let (slot, inode_id, tgid, cause, on, doubtful) = unsafe {
        (
            (*note).slot,
            (*note).inode_id,
            (*note).tgid,
            (*note).cause,
            (*note).facts.on,
            (*note).doubtful != 0,
        )
    };
    let (Some(found), Some(inode), Some(stake)) = (
        found,
        InodeRef::find_slot(slot, inode_id),
        StakeRef::find(tgid, inode_id),
    ) else {
        return 0;
    };
    if cause == 0 && on == on::ZOMBIE {
        hold(inode, stake, found);
        return 0;
    }
    // What was noted may be over: the pins have gone meanwhile, or another lease covers them.
    let is_over = before == 0 && cause != 0 && stake.word() & ZOMBIE == 0;
    if is_over || stake.pins() == 0 {
        return 0;
    }
    let moment = if before == 1 {
        Moment::Before
    } else {
        Moment::After
    };
    let spared = spared(stake, cause, moment);
    let (action, outcome) = match verdict(found, moment, cause, spared, doubtful) {
        Verdict::Pass => return 0,
        Verdict::Deny => (Action::Deny, Outcome::Done),
        Verdict::Tell(action, outcome) => (action, outcome),
        Verdict::Signal(action) => (action, signal(stake, action)),
        Verdict::Order(action) => (action, Outcome::HandedOver),
    };
    if outcome as u32 == Outcome::HandedOver as u32 {
        // Here, too: the ring may be full of what others do.
        stake.order(current::now(), action as u32);
    }
    record(inode, stake, found, cause, action, outcome);
    before as i64 & 1
}

/// Sends the owner of a stake the signal of an action, if it is the current process.
#[inline(always)]
fn signal(stake: StakeRef, action: Action) -> Outcome {
    if !is_current(stake) {
        return Outcome::HandedOver;
    }
    let number = if action as u32 == Action::Kill as u32 {
        SIGKILL
    } else {
        SIGSTOP
    };
    // SAFETY: a helper that takes a number. With preemption off it defers the signal to an
    // interrupt on this CPU; it answers EBUSY if one is under way there already
    // (kernel/trace/bpf_trace.c, bpf_send_signal_common).
    if unsafe { bpf_send_signal(number) } == 0 {
        Outcome::Done
    } else {
        Outcome::HandedOver
    }
}

/// A stake has a lease and pins: asks userspace to hold its file if the rule says so.
#[inline(always)]
fn hold(inode: InodeRef, stake: StakeRef, found: Match) {
    let Some(rule) = found.rule() else { return };
    if rule.acts()
        && stake.key.tgid != INIT
        && (rule.action == Action::Hold as u32 || rule.fallback == Action::Hold as u32)
        && stake.hold()
    {
        count(Count::HoldRequests, 1);
        let did = notify::Did::new(0, Action::Hold, Outcome::HandedOver);
        notify::action(EventKind::Hold, inode, stake, found, did);
    }
}

/// Counts a hit of the rule that matched; `counter` is its place in the rule's row. A function of
/// its own, so that its stack is not the caller's.
#[unsafe(no_mangle)]
extern "C" fn enforce_count_hit(found: u64, counter: u32) -> i64 {
    if let Some(rule) = Match(Header(found)).rule()
        && let Some(hits) = HITS.get_ptr_mut(rule.row * HITS_OF_RULE + counter)
    {
        // SAFETY: a live map value.
        unsafe { At::new(hits) }.add(1);
    }
    0
}

/// Counts an action and tells of it.
#[inline(always)]
fn record(
    inode: InodeRef,
    stake: StakeRef,
    found: Match,
    cause: u32,
    action: Action,
    outcome: Outcome,
) {
    enforce_count_hit(found.0.0, hit(0, action, outcome));
    let which = match (outcome, action) {
        (Outcome::Done, Action::Deny) => Some(Count::Denied),
        (Outcome::Done, Action::Stop) => Some(Count::Stopped),
        (Outcome::Done, Action::Kill) => Some(Count::Killed),
        (Outcome::Done, _) => None,
        (Outcome::HandedOver, _) => Some(Count::HandedOver),
        (Outcome::Spared | Outcome::Bystander | Outcome::Ending, _) => Some(Count::Spared),
        (Outcome::Failed, _) => Some(Count::ActionsFailed),
        (Outcome::Would, _) => Some(Count::Would),
    };
    if let Some(which) = which {
        count(which, 1);
    }
    // A process that ends tells enough by ending.
    if outcome as u32 != Outcome::Ending as u32 {
        notify::action(
            EventKind::Action,
            inode,
            stake,
            found,
            notify::Did::new(cause, action, outcome),
        );
    }
}
