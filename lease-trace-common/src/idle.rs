//! When a lease is counted. It is *idle* when it is set: its entry is all that there is, since nobody asks for it
//! before its setter has pins in the inode. Then it is *counted*, in the setter's stake and in the inode's record.
//!
//! Whoever sets a lease makes the entry, and then looks for a stake; whoever pins makes the stake, and then looks for
//! the entry. Between the two stands an operation that no processor moves ([`idle`], and the swap by which a stake
//! is made), so at least one of them sees the other, and counts the lease. If both do, or the lease ends meanwhile,
//! the word of the entry says who was first, and for the others the lease ends where they counted it.
//! `tests/interleavings.rs` tries many orders.

use crate::word::{self, Change, Word};

/// Bit of [`crate::lease::Lease::counted`]: no stake counts it. Beside it stands a number that no other entry has:
/// the memory of one may become another lease's.
pub const IDLE: u64 = 1 << 63;
/// The word of a lease that ended.
pub const ENDED: u64 = 0;

/// The word of an entry if nobody counts its lease, to be given to [`count`].
#[inline(always)]
pub fn idle<W: Word>(entry: W) -> Option<u64> {
    let counted = entry.add(0);
    (counted & IDLE != 0).then_some(counted)
}

/// The lease ended, and nobody counts it from now on. How it was counted; `None` if somebody else ended it. `is_its`
/// says, after the word was read, whether that still is the word of this lease's entry.
#[inline(always)]
pub fn end<W: Word>(entry: W, is_its: impl Fn() -> bool) -> Option<u64> {
    end_once(entry, &is_its)
        // It was counted just then: nothing but an end is left to it.
        .or_else(|| end_once(entry, &is_its))
}

#[inline(always)]
fn end_once<W: Word>(entry: W, is_its: impl Fn() -> bool) -> Option<u64> {
    let counted = entry.load();
    let is_ours = counted != ENDED && is_its() && entry.swap_if(counted, ENDED);
    is_ours.then_some(counted)
}

/// What became of [`count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    Counted,
    /// The inode's record or the stake was just deleted or changed: to be looked for again.
    Again,
    /// Somebody else has counted it, or it has ended: what was counted is to end, as a lease does. If pins came
    /// meanwhile, and nothing else covers them, it ended with pins left.
    Late,
}

/// The word of a record, and its generation.
#[derive(Clone, Copy)]
pub struct Of<W> {
    pub word: W,
    pub generation: u64,
}

/// Counts a lease whose entry has this `idle` word: first in the inode, so that this counts at least what its stakes
/// do. `covered` is told what became of the stake, whose record the lease keeps. With `number` in it the entry says
/// which record counts it.
#[inline(always)]
pub fn count<E: Word, I: Word, S: Word>(
    entry: E,
    idle: u64,
    number: u64,
    inode: Of<I>,
    stake: Of<S>,
    covered: impl FnOnce(Change),
) -> Counting {
    if !inode.word.lease(inode.generation).is_made() {
        return Counting::Again;
    }
    let change = stake.word.lease(stake.generation);
    if !change.is_made() {
        word::unlease(inode.word);
        return Counting::Again;
    }
    covered(change);
    if entry.swap_if(idle, number) {
        Counting::Counted
    } else {
        Counting::Late
    }
}
