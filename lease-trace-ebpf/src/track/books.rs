//! The books of an inode, as `lease_trace_common::books` wants them: where the words are, and what is
//! made of a change. Nothing else changes how many pins a stake or an inode has.

use lease_trace_common::{
    books::{self, Books, Stake as StakeWord, Words},
    stake::{Stake, StakeKey, pins},
    word::{Change, Word as _},
};

use crate::{
    bpf::{atomic::At, task},
    kernel::{InodePtr, current},
    state::{
        inodes::InodeRef,
        maps::{pinned, walk_stakes},
        stakes::StakeRef,
    },
    track::{react, ring_teardown},
};

impl Books for InodeRef {
    type Word = At;

    #[inline(always)]
    fn words(self) -> Words<At> {
        Self::words(self)
    }

    #[inline(always)]
    fn stake(self, tgid: u32) -> Option<StakeWord<At>> {
        StakeRef::find(tgid, self.id).map(StakeRef::in_books)
    }

    #[inline(always)]
    fn pinned(self) {
        pinned().add(1);
    }

    #[inline(always)]
    fn unpinned(self) {
        pinned().add(1_u64.wrapping_neg());
    }

    #[inline(always)]
    fn dropped(self, stake: StakeWord<At>, change: Change) {
        react::dropped(self, stake.tgid, change);
    }

    /// The current process if it has pins, else the one in whose name this thread acts. Nobody where an
    /// interrupt runs on a task's back.
    #[inline(always)]
    fn releaser(self) -> Option<u32> {
        releaser(self, 0)
    }

    #[inline(always)]
    fn long_releaser(self) -> Option<u32> {
        releaser(self, LONG)
    }

    /// Transfers mostly end in an interrupt, where nobody lets go of pins of long term.
    #[inline(always)]
    fn may_be_owned(self, n: u64) {
        if InodeRef::owners(self) > 0 && !task::is_interrupted() {
            self.note_ambiguous(n);
        }
    }

    #[inline(always)]
    fn pay_all(self) {
        let mut all = PayAll {
            number: self.number(),
        };
        walk_stakes(pay_one, &mut all);
    }

    #[inline(always)]
    fn settle_once(self) -> bool {
        books_settle_once(self.number()) != 0
    }

    #[inline(always)]
    fn close_batch(self) -> u64 {
        if self.batch() == 0 {
            return 0;
        }
        books_close_batch(self.number()) as u64
    }

    #[inline(always)]
    fn credit(self, tgid: u32, n: u64) -> u64 {
        books_credit(self.number(), u64::from(tgid), n) as u64
    }
}

/// Only who lets go of pins of long term: a process in a system call that drops such, or that ends; a kernel thread that
/// tears down a ring.
const LONG: u64 = 1;

#[inline(always)]
fn releaser(inode: InodeRef, which: u64) -> Option<u32> {
    match books_releaser(inode.number(), which) {
        0 => None,
        tgid => Some(tgid as u32),
    }
}

/// The current process if it has pins in the inode with this number, else the one in whose name this thread acts; 0 for
/// neither. A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_releaser(number: u64, which: u64) -> i64 {
    let (_, inode_id) = InodeRef::parts_of(number);
    if task::is_interrupted() {
        return 0;
    }
    let tgid = current::tgid();
    match StakeRef::find(tgid, inode_id) {
        Some(stake) if pins(stake.word()) > 0 => {
            if which == LONG && !current::drops_long_term() {
                return 0;
            }
            i64::from(tgid)
        }
        _ => ring_teardown::owner_of(inode_id).map_or(0, i64::from),
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_credit(number: u64, tgid: u64, n: u64) -> i64 {
    match InodeRef::find_number(number) {
        Some(inode) => books::credit(inode, tgid as u32, n) as i64,
        None => 0,
    }
}

/// A global function, verified separately: checked once, not once for each round.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_settle_once(number: u64) -> i64 {
    InodeRef::find_number(number).map_or(0, |inode| i64::from(books::settle_once(inode)))
}

struct PayAll {
    number: u64,
}

unsafe extern "C" fn pay_one(
    _map: *mut core::ffi::c_void,
    key: *mut StakeKey,
    _stake: *mut Stake,
    all: *mut PayAll,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `books_pay_all` gave it.
    let (key, number) = unsafe { (*key, (*all).number) };
    if let Some(inode) = InodeRef::find_number(number)
        && key.inode == inode.id
    {
        // Without a call: they go eight deep at most.
        books::pay_by(inode, |n| books::credit(inode, key.tgid, n));
    }
    0
}

/// Counts `n` pins in the record of this inode, made if there is none.
#[inline(always)]
pub fn enter(inode: InodePtr, n: u64) -> Option<InodeRef> {
    InodeRef::until_made(inode.0, || books_enter(inode.0, n))
}

/// The record of this inode, made if there is none, with a lease added.
#[inline(always)]
pub fn add_lease(inode: InodePtr) -> Option<InodeRef> {
    InodeRef::until_made(inode.0, || books_add_lease(inode.0))
}

/// What tells the inode from others, as its record wants it.
#[inline(always)]
fn numbers(inode: InodePtr) -> (u64, u64) {
    (
        inode.number(),
        u64::from(inode.device()) << 32 | u64::from(inode.generation()),
    )
}

/// Adds it once. A global function, verified separately: checked once, not at each turn.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_add_lease(address: u64) -> i64 {
    match InodeRef::find_or_make(address, || numbers(InodePtr(address))) {
        Ok(found) => found.answer(found.words().word.lease(books::generation(found.id))),
        Err(answer) => answer,
    }
}

/// Counts them once. A global function, verified separately: checked once, not at each turn.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_enter(address: u64, n: u64) -> i64 {
    match InodeRef::find_or_make(address, || numbers(InodePtr(address))) {
        Ok(found) => {
            // Before they are in the word: whoever corrects that has read both.
            found.turns().add(1);
            found.answer(books::enter(found, n))
        }
        Err(answer) => answer,
    }
}

/// Closes the inode's batch, so that what stake and inode count is what there is. Another processor may
/// drop the pins that a batch leaves: the caller has a lease or pins in the inode, or forgets it if it is
/// empty.
#[inline(always)]
pub fn close_batch(inode: InodeRef) {
    Books::close_batch(inode);
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_close_batch(number: u64) -> i64 {
    InodeRef::find_number(number).map_or(0, |inode| books::close_batch(inode) as i64)
}

/// Opens a batch for the only owner in the inode with this number, if there can be one, for the folios of the mapping at this
/// address (0: of whichever is known).
#[inline(always)]
pub fn open_batch(number: u64, mapping: u64) {
    books_open_batch(number, mapping);
}

/// A global function, verified separately, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn books_open_batch(number: u64, mapping: u64) -> i64 {
    if let Some(inode) = InodeRef::find_number(number) {
        inode.be_found_by(mapping);
        books::open_batch(inode);
        inode.forget_if_empty();
    }
    0
}
