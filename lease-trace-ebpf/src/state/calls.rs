//! Calls under way: what they were called with, and which threads are inside one that pins.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use lease_trace_common::{count::Count, word::Word as _};

use crate::bpf::config::{self, CONFIG, constant};
use crate::{
    bpf::task,
    state::{
        losses::lost,
        maps::{CALLS, Call, detachings, nothing_pinned, pinning, spreads},
    },
};

/// Whether pins with these FOLL flags are wanted as pins of their own.
#[inline(always)]
pub fn is_long_term(flags: u32) -> bool {
    let all = constant(&CONFIG.pins_all);
    all != 0 || flags & long_term() != 0
}

/// `FOLL_LONGTERM`, which `memfd_pin_folios` has always.
#[inline(always)]
pub fn long_term() -> u32 {
    constant(&CONFIG.foll_longterm)
}

/// Whether what is unpinned during a call with these flags must be told from the rest.
#[inline(always)]
pub fn is_marked(flags: u32) -> bool {
    is_long_term(flags) || config::is_cross_checked()
}

/// Whether a call with these flags is to be seen to return: its pins count, or would if the file has others. Also
/// while any call is kept, which may be one of this thread whose return was missed.
#[inline(always)]
pub fn is_wanted(flags: u32) -> bool {
    is_marked(flags) || !nothing_pinned() || pinning().load() != 0
}

/// A call that may pin begins.
#[inline(always)]
pub fn enter(call: Call) {
    keep(Call {
        pinning: u32::from(is_marked(call.flags)),
        detachings: detachings().load(),
        ..call
    });
}

/// A call that pins for the long term begins: its arguments are kept until it returns, and mark the
/// thread, since what is unpinned meanwhile (the kernel's own retries) was never counted.
#[inline(always)]
pub fn enter_long_term(call: Call) {
    keep(Call {
        pinning: 1,
        detachings: detachings().load(),
        ..call
    });
}

/// Keeps the arguments of any call until it returns.
#[inline(always)]
pub fn keep(call: Call) {
    let thread = task::pid_tgid();
    let call = &Call {
        tid: thread as u32,
        task: task::address(),
        ..call
    };
    if CALLS.insert(thread, call, BPF_NOEXIST.into()).is_err() {
        // A call of this thread whose return was not seen (the kernel has a limited number of kretprobes
        // under way) is over, now that the next begins; else there is no room.
        forget_unreturned(thread);
        if CALLS.insert(thread, call, BPF_ANY.into()).is_err() {
            lost(Count::LostCalls, 1, call.start);
            if call.pages == TO_SPREAD {
                spreads().add(1_u64.wrapping_neg());
            }
            return;
        }
    }
    if call.pinning != 0 {
        pinning().add(1);
    }
}

/// In the place of pages: a lease was entered, and covers others ([`spreads`] counts these calls).
pub const TO_SPREAD: u64 = 1;

/// If it was one that pins, its pins were missed.
#[inline(always)]
fn forget_unreturned(thread: u64) {
    let Some(call) = CALLS.get_ptr(thread) else {
        return;
    };
    // SAFETY: a live map value of this thread.
    let (pinning_call, pages, start) = unsafe { ((*call).pinning, (*call).pages, (*call).start) };
    if pinning_call != 0 {
        lost(Count::LostCalls, 1, start);
        pinning().add(1_u64.wrapping_neg());
    } else if pages == TO_SPREAD {
        spreads().add(1_u64.wrapping_neg());
    }
}

/// The task that made the call that is kept for this thread.
#[inline(always)]
pub fn task_of(thread: u64) -> Option<u64> {
    let call = CALLS.get_ptr(thread)?;
    // SAFETY: a map value, whose memory may become another thread's call.
    let (task, tid) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*call).task),
            core::ptr::read_volatile(&raw const (*call).tid),
        )
    };
    (tid == thread as u32).then_some(task)
}

/// The thread has ended, and its call with it: if it was one that pins, its pins were missed.
#[inline(always)]
pub fn forget(thread: u64) {
    forget_unreturned(thread);
    _ = CALLS.remove(thread);
}

/// What [`keep`] kept for this thread; [`done`] must follow.
#[inline(always)]
pub fn kept<'a>() -> Option<&'a Call> {
    // SAFETY: a live map value; the entry belongs to this thread, which is here and removes it
    // only in `done`, or to an ended one whose number this one has.
    CALLS
        .get_ptr(task::pid_tgid())
        .map(|call| unsafe { &*call })
        .filter(|call| call.task == task::address())
}

/// The call has been dealt with.
#[inline(always)]
pub fn done(call: &Call) {
    if call.pinning != 0 {
        pinning().add(1_u64.wrapping_neg());
    }
    _ = CALLS.remove(task::pid_tgid());
}

/// What a kprobe kept of a call that is not tracked is not needed, now that fexit has seen it return.
#[inline(always)]
pub fn forget_mixed() {
    if constant(&CONFIG.mixed) != 0 {
        _ = CALLS.remove(task::pid_tgid());
    }
}

/// Whether this thread is inside a pin call, and it is the thread itself that comes here.
#[inline(always)]
pub fn under_way() -> bool {
    if pinning().load() == 0 {
        return false;
    }
    // SAFETY: as in `kept`.
    let is_inside = CALLS
        .get_ptr(task::pid_tgid())
        .is_some_and(|call| unsafe { (*call).pinning != 0 && (*call).task == task::address() });
    is_inside && !task::is_interrupted()
}
