//! What a note comes to. The only file that can signal, and whose word a denial is. What is decided is in
//! `lease_trace_common::verdict`; which rule applies is found by `rules`; when, is in `moments`.

use aya_ebpf::helpers::generated::bpf_send_signal;
use lease_trace_common::{
    cause::Cause,
    control,
    count::Count,
    event::EventKind,
    policy::{Action, HITS as HITS_OF_RULE, Header, cause_bit, hit, on},
    stake::{ZOMBIE, leases},
    verdict::{Moment, Outcome, Situation, Spared, Verdict, decide},
    word::Word as _,
};

use crate::{
    bpf::atomic::At,
    effects::notes,
    effects::notify,
    judge::{paths, rules::find},
    kernel::{InodePtr, current, leases as kernel_leases},
    state::inodes::InodeRef,
    state::maps::{ANY_PINS, CONTROL, HITS, MORE_PINS, PENDING, RULE, count, nothing_pinned},
    state::policy::{self, Match},
    state::stakes::StakeRef,
};

const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;

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
            settling: found.0.settles(),
        },
    )
}

/// Whether, and why, this stake's owner or the current task is not to be touched.
#[inline(always)]
fn spared(stake: StakeRef, cause: u32, moment: Moment) -> Spared {
    if stake.key.tgid == INIT {
        return Spared::Init;
    }
    // Whoever is current has only found it.
    if current::is_kthread() || cause == Cause::Orphaned as u32 {
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

/// Judges what note `n` of this thread says, by the rules that are carried out and by those that are not; whether
/// the release is denied.
#[inline(always)]
pub fn judge_note(n: u64, moment: Moment) -> bool {
    let header = policy::header();
    paths::of_pins(n);
    let before = u64::from(matches!(moment, Moment::Before));
    let is_denied = header.enforces() && enforce_judge(n, before, 0) != 0;
    // What is denied will not come again as what has happened.
    if header.audits() && (before == 0 || is_denied) {
        enforce_judge(n, before << 1, 1);
    }
    _ = PENDING.remove(notes::of_thread() + n);
    is_denied
}

/// Judges what note `n` of this thread says about bare pins, now that the system call has returned that took them.
#[inline(always)]
pub fn judge_returned(n: u64) {
    let header = policy::header();
    let is_bare = is_bare_still(n);
    if is_bare && header.enforces() {
        enforce_judge(n, RETURNED, 0);
    }
    if is_bare && header.audits() {
        enforce_judge(n, RETURNED, 1);
    }
    _ = PENDING.remove(notes::of_thread() + n);
}

/// Whether the pins of note `n` of this thread are there and bare. What was ordered because of them is taken back.
#[inline(always)]
pub fn is_bare_still(n: u64) -> bool {
    enforce_is_bare(n) != 0
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_is_bare(n: u64) -> i64 {
    let Some(note) = PENDING.get_ptr(notes::of_thread() + n) else {
        return 0;
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (slot, tgid, inode_id) = unsafe { ((*note).slot, (*note).tgid, (*note).inode_id) };
    let (Some(inode), Some(stake)) = (
        InodeRef::find_slot(slot, inode_id),
        StakeRef::find(tgid, inode_id),
    ) else {
        return 0;
    };
    // What was ordered of a zombie is another matter.
    if stake.word() & ZOMBIE != 0 {
        return 0;
    }
    stake.forget_order();
    if stake.pins() == 0 || leases(stake.word()) > 0 {
        return 0;
    }
    // A lease that found no room is not in the books, and covers all the same.
    i64::from(!kernel_leases::is_set_by(
        InodePtr(inode.get().address),
        tgid,
    ))
}

/// Whether, and why, these bare pins wait: [`RULE`], [`MORE_PINS`] or 0. For a monitor that waits less long than the call
/// may last the stake has the order.
#[inline(always)]
pub fn is_to_wait(n: u64) -> u64 {
    let header = policy::header();
    paths::of_pins(n);
    let by_those_in_force = if header.enforces() {
        enforce_wait(n, 0) as u64
    } else {
        0
    };
    let by_others = if header.audits() {
        enforce_wait(n, 1) as u64
    } else {
        0
    };
    by_those_in_force | by_others
}

/// Whether a rule is about the bare pins of note `n` of this thread, or would be about more of them, one that is carried
/// out, or, with `audits`, one that is not: [`RULE`], [`MORE_PINS`] or 0. A global function, verified separately.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_wait(n: u64, audits: u64) -> i64 {
    let key = notes::of_thread() + n;
    let found = find(key, audits);
    let Some(note) = PENDING.get_ptr_mut(key) else {
        return 0;
    };
    let Some(found) = found else {
        // More may follow before the call returns.
        // SAFETY: a live map value of this thread.
        unsafe { (*note).waits = ANY_PINS };
        let found = find(key, audits);
        // SAFETY: as above.
        unsafe { (*note).waits = 0 };
        return if found.is_some() { MORE_PINS as i64 } else { 0 };
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (tgid, inode_id) = unsafe { ((*note).tgid, (*note).inode_id) };
    let Some(stake) = StakeRef::find(tgid, inode_id) else {
        return 0;
    };
    let spared = spared(stake, 0, Moment::After);
    if let Verdict::Order(action) = verdict(found, Moment::After, 0, spared, true) {
        stake.order(current::now(), action as u32, false);
    }
    RULE as i64
}

/// When [`enforce_judge`] judges, beside 1, before the release, 0, after it, and 2, before it as if after it: bare pins
/// when the system call has returned.
const RETURNED: u64 = 3;

/// Judges what note `n` of this thread says, before the release (1), after it (0), before it as if after it (2), or as
/// above: 1 to deny it. By the rules that are carried out, or, with `audits`, by those that are
/// not. A global function, verified separately.
#[unsafe(no_mangle)]
extern "C" fn enforce_judge(n: u64, before: u64, audits: u64) -> i64 {
    let key = notes::of_thread() + n;
    let found = find(key, audits);
    let Some(note) = PENDING.get_ptr(key) else {
        return 0;
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (whose, slot, inode_id, tgid, cause, on, doubtful) = unsafe {
        (
            (*note).key,
            (*note).slot,
            (*note).inode_id,
            (*note).tgid,
            (*note).cause,
            (*note).facts.on,
            // Bare pins the kernel may give back before the call has returned.
            (*note).doubtful != 0 || (*note).cause == 0 && before != RETURNED,
        )
    };
    if whose != key {
        return 0;
    }
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
    let is_over = if cause == 0 {
        leases(stake.word()) > 0
    } else if cause == Cause::Orphaned as u32 {
        // As a zombie it was judged otherwise.
        leases(stake.word()) == 0 || stake.word() & ZOMBIE != 0
    } else {
        before == 0 && stake.word() & ZOMBIE == 0
    };
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
        let is_orphaned = cause == Cause::Orphaned as u32;
        stake.order(current::now(), action as u32, is_orphaned);
    } else if cause == 0 {
        stake.forget_order();
    }
    enforce_record(
        key,
        found.0.0,
        u64::from(action as u32),
        u64::from(outcome as u32),
    );
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
        let (tgid, inode_id) = (stake.key.tgid, stake.key.inode);
        notify::action(EventKind::Hold, inode.slot, tgid, inode_id, found.0.0, did);
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

/// Counts what the breach of a note came to and tells of it. A global function, so that its stack is not the caller's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_record(note: u64, found: u64, action: u64, outcome: u64) -> i64 {
    let Some(note) = PENDING.get_ptr(note) else {
        return 0;
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (slot, inode_id, tgid, cause) =
        unsafe { ((*note).slot, (*note).inode_id, (*note).tgid, (*note).cause) };
    let action = Action::from_raw(action as u32);
    let Some(outcome) = Outcome::from_raw(outcome as u32) else {
        return 0;
    };
    enforce_count_hit(found, hit(0, action, outcome));
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
        let did = notify::Did::new(cause, action, outcome);
        notify::action(EventKind::Action, slot as u32, tgid, inode_id, found, did);
    }
    0
}
