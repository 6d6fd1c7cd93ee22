//! What the end of a lease does to a stake that it covered.

use lease_trace_common::{
    lease::{LeaseInfo, known},
    stake::{Task, ZOMBIE},
    word::{self, Change},
};

use crate::{
    bpf::mem,
    kernel::current,
    state::{inodes::InodeRef, stakes::StakeRef},
    track::{breaks, coverage, react},
};

/// What is told of a lease that ended, in one word, since a function takes five arguments:
///
/// ```text
///  63     32 31     16 15      8 7       0
/// +---------+---------+---------+---------+
/// |  flags  |  cause  |  known  |  mode   |
/// +---------+---------+---------+---------+
/// ```
#[inline(always)]
pub const fn facts(info: &LeaseInfo, flags: u32, cause: u32) -> u64 {
    (flags as u64) << 32 | (cause as u64) << 16 | (info.known as u64) << 8 | info.mode as u64
}

/// A lease that covered a process's stake is let go by the current process. If pins remain and it
/// was the last: a breach.
#[inline(always)]
pub fn end_lease(tgid: u32, inode: InodeRef, file: u64, set_ns: u64, facts: u64, left: &mut u64) {
    if let Some(stake) = StakeRef::find(tgid, inode.id) {
        stake.set_file(file);
        if stake.end_unpinned() {
            stake.forget_if_empty();
            return;
        }
        if word::is_last_cover(stake.word()) && coverage::has_more(inode, 1) {
            // Its owner may have come to hold another leased file since it pinned.
            coverage::add_by_some_descriptors(stake.key.tgid, inode, left);
        }
    }
    lease(u64::from(tgid), inode.number(), set_ns, facts);
}

/// The same of a stake that may have pins, without a look at what else may cover them.
#[inline(always)]
pub fn lease(tgid: u64, number: u64, set_ns: u64, facts: u64) {
    lease_end_describe(tgid, number, set_ns, facts);
    lease_end(tgid, number, u64::from(facts as u32 >> 16));
}

/// Describes the breach that the end of this lease will be, if it is the last of the stake. Before the
/// mark, so that whoever sees the mark sees it, too. Ends of leases of one inode that hooks see run under its
/// `flc_lock`; for two that do not see each other [`lease_end`] says what it knows. A global function: verified
/// once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end_describe(tgid: u64, number: u64, set_ns: u64, facts: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode.id) else {
        return 0;
    };
    let word = stake.word();
    if !word::is_last_cover(word) || word & ZOMBIE != 0 {
        return 0;
    }
    let cause = facts as u32 >> 16;
    let ending = if react::is_ending(cause, tgid as u32) {
        known::ENDING
    } else {
        0
    };
    // SAFETY: a map value.
    unsafe {
        let record = stake.get_ptr();
        let lease = &raw mut (*record).lease;
        (*lease).set_ns = set_ns;
        (*lease).flags = (facts >> 32) as u32;
        (*lease).mode = facts as u32 & 0xff;
        (*lease).cause = cause;
        (*lease).known = (facts as u32 >> 8 & 0xff) | ending;
        if (*lease).known & known::LAPSED == 0 {
            current::describe_to(&raw mut (*record).releaser);
        } else {
            (*record).releaser = Task::default();
        }
        match breaks::breaker(inode.get().address) {
            Some(breaker) => mem::copy(&raw mut (*record).breaker, &*breaker),
            None => (*record).breaker = Task::default(),
        }
        (*record).released_ns = current::now();
    }
    0
}

/// The end of the lease itself. A global function, verified separately, too.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_end(tgid: u64, number: u64, cause: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    if let Some(stake) = StakeRef::find(tgid as u32, inode.id) {
        let change = stake.lease_end();
        if change.is(Change::ZOMBIE) && stake.get().lease.cause == 0 {
            // SAFETY: a map value; the change left a guard.
            unsafe {
                let record = stake.get_ptr();
                (*record).lease.cause = cause as u32;
                (*record).released_ns = current::now();
            }
        }
        react::lease_ended(inode, stake, change, cause as u32);
    }
    0
}
