//! The word of a stake or of an inode: leases, pins, state and generation in 64 bits, changed by
//! compare-and-swap alone, so that whoever makes a transition knows it from the word that it replaced,
//! and nobody else makes the same.
//!
//! ```text
//!  63        35  34      33    32    31    29  28        16  15       0
//! +------------+--------+------+------+--------+------------+----------+
//! |    pins    | zombie | bare | live | guards | generation |  leases  |
//! +------------+--------+------+------+--------+------------+----------+
//! ```
//!
//! The generation says which record the word is of: the memory of a deleted record is used again at once,
//! for another one. A change names the generation that it is meant for, and fails on any other; so a
//! pointer that has outlived its record does no harm. A word that is not live is of no record: 0 before
//! it is made, its last generation after it.
//!
//! A change that others are to be told of leaves a guard, until [`told`] takes it away: the record stays, so
//! that there is something to tell. The end of a zombie, or of bare pins, is told by whoever takes the last guard
//! away; so what begins is told before what ends, whichever processor is faster.
//!
//! The functions here are the only ones that change such words. Each either makes its whole change or none,
//! and says what it did in a [`Change`].

use crate::{
    batch,
    tagged::{self, owners},
};

/// A place that several processors change at once. A swap and an addition are fully ordered, as
/// BPF's atomic instructions that return a value are; a load sees at least what was swapped in before it by the same processor.
pub trait Word: Copy {
    /// How often a swap is tried that others were faster with, before the function says that it was
    /// [`BUSY`]. Each failure is somebody else's success.
    const TRIES: u64;

    fn load(self) -> u64;

    /// Compare and swap: whether it was `old` and is `new` now.
    fn swap_if(self, old: u64, new: u64) -> bool;

    /// Adds, wrapping around, and returns what was there.
    fn add(self, n: u64) -> u64;

    /// This number, of which the compiler knows nothing, nor whoever checks the program.
    #[inline(always)]
    fn unknown(self, n: u64) -> u64 {
        n
    }

    /// This number, out of whose making the compiler makes no branch.
    #[inline(always)]
    fn opaque(self, n: u64) -> u64 {
        n
    }

    // The changes that are tried again while others are faster. They are called through here, so that
    // a program for the kernel can have each loop in a function that is verified once.

    /// [`pin`].
    #[inline(always)]
    fn pin(self, generation: u64, n: u64) -> Change {
        pin(self, generation, n)
    }

    /// [`pin_inode`].
    #[inline(always)]
    fn pin_inode(self, generation: u64, n: u64) -> Change {
        pin_inode(self, generation, n)
    }

    /// [`unpin`].
    #[inline(always)]
    fn unpin(self, generation: u64, n: u64) -> Change {
        unpin(self, generation, n)
    }

    /// [`told`].
    #[inline(always)]
    fn told(self, generation: u64) -> Change {
        told(self, generation)
    }

    /// [`lease`].
    #[inline(always)]
    fn lease(self, generation: u64) -> Change {
        lease(self, generation)
    }

    /// [`lease_end`].
    #[inline(always)]
    fn lease_end(self, generation: u64) -> Change {
        lease_end(self, generation)
    }

    /// [`tagged::add`].
    #[inline(always)]
    fn count_up(self, generation: u64, n: u64, most: u64) -> u64 {
        tagged::add(self, generation, n, most) & !BUSY
    }

    /// [`tagged::take`].
    #[inline(always)]
    fn count_down(self, generation: u64, n: u64) -> u64 {
        tagged::take(self, generation, n) & !BUSY
    }

    /// [`owners::change`].
    #[inline(always)]
    fn change_owners(self, generation: u64, number: u64, tgid: u64) -> u64 {
        owners::change(self, generation, number, tgid) & !BUSY
    }

    /// [`batch::close`].
    #[inline(always)]
    fn close_batch(self, inode_id: u64) -> u64 {
        match batch::close(self, inode_id) {
            BUSY => 0,
            closed => closed,
        }
    }
}

/// One lease in a word.
pub const LEASE: u64 = 1;
const LEASES: u64 = 0xffff;
const GENERATION_SHIFT: u32 = 16;
/// The most that a generation is: what the other fields leave of 64 bits. A pointer would have to be kept while 8,192
/// records had the same memory, one after the other, to be taken for that of the last.
pub const MOST_GENERATION: u64 = 0x1fff;
const GENERATION: u64 = MOST_GENERATION << GENERATION_SHIFT;
/// A processor is about to tell of a change.
const GUARD: u64 = 1 << 29;
const GUARDS: u64 = 7 * GUARD;
/// There is a record that the word is of.
pub const LIVE: u64 = 1 << 32;
/// The first pins came without a lease, and their end has not been told yet; not of a zombie.
pub const BARE: u64 = 1 << 33;
/// The last lease went while pins remained, and they have not all gone yet.
pub const ZOMBIE: u64 = 1 << 34;
/// What is told when it begins, and when it ends.
const TOLD: u64 = ZOMBIE | BARE;
/// One pin reference in a word.
pub const PIN: u64 = 1 << PIN_SHIFT;
const PIN_SHIFT: u32 = 35;
/// The most pins that a word holds: 2 TiB of pages of 4 KiB.
pub const MOST_PINS: u64 = u64::MAX >> PIN_SHIFT;

/// Others were always faster: nothing was changed. No count and no change has this bit, and no batch is this.
pub const BUSY: u64 = 1 << 63;

/// Whether to try once more; `left` begins with [`Word::TRIES`]. The compiler does not see how often that is:
/// with every turn written out, programs would be half as long again.
#[inline(always)]
pub fn again(left: &mut u64) -> bool {
    *left = core::hint::black_box(*left - 1);
    *left > 0
}

/// Pin references in a word.
#[inline(always)]
pub const fn pins(word: u64) -> u64 {
    word >> PIN_SHIFT
}

/// Leases in a word.
#[inline(always)]
pub const fn leases(word: u64) -> u64 {
    word & LEASES
}

/// How many are about to tell of a change.
#[inline(always)]
pub const fn guards(word: u64) -> u64 {
    (word & GUARDS) / GUARD
}

/// Which record a word is of; `None` if of none.
#[inline(always)]
pub const fn generation(word: u64) -> Option<u64> {
    if word & LIVE == 0 {
        None
    } else {
        Some((word & GENERATION) >> GENERATION_SHIFT)
    }
}

/// The word of a new record, with neither lease nor pin.
#[inline(always)]
pub const fn fresh(generation: u64) -> u64 {
    LIVE | generation << GENERATION_SHIFT & GENERATION
}

/// Whether a word is of the record with this generation.
#[inline(always)]
pub const fn is_of(word: u64, generation: u64) -> bool {
    word & (LIVE | GENERATION) == fresh(generation)
}

/// What a change did to a word: bits, and how many pins it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(pub u64);

impl Change {
    /// It was the word of another record, or of none: nothing was changed. Look again.
    pub const GONE: u64 = 1 << 32;
    /// There was no room in the word: nothing was changed.
    pub const FULL: u64 = 1 << 33;
    /// The first pins.
    pub const FIRST: u64 = 1 << 34;
    /// The last pin went.
    pub const LAST: u64 = 1 << 35;
    /// The last lease went, and pins are left: a breach. The count is what is left.
    pub const BREACH: u64 = 1 << 37;
    /// It was none before: the breach made a zombie.
    pub const ZOMBIE: u64 = 1 << 38;
    /// There are both a lease and pins now, and there were not.
    pub const COVERED: u64 = 1 << 39;
    /// There are not both any more, and there were.
    pub const UNCOVERED: u64 = 1 << 40;
    /// There was no lease to take out.
    pub const NO_LEASE: u64 = 1 << 41;
    /// The word was that of a zombie before.
    pub const WAS_ZOMBIE: u64 = 1 << 42;
    /// A lease is in the word now.
    pub const LEASED: u64 = 1 << 43;
    /// There is something to tell, and a guard until [`told`].
    pub const GUARDED: u64 = 1 << 44;
    /// With it bare pins ended: the last was dropped, or they are a zombie's.
    pub const BARE_END: u64 = BARE << Self::ENDS;
    /// With it a zombie ended: its last pin was dropped.
    pub const AT_REST: u64 = ZOMBIE << Self::ENDS;
    /// The first pins, and they are bare; the end of those before them, if they were, has been told.
    pub const BARE: u64 = 1 << 47;

    /// From what a word says to its end.
    const ENDS: u32 = 12;

    /// Whether it has this bit.
    #[inline(always)]
    pub const fn is(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// How many pins were moved, or for [`Self::BREACH`] are left.
    #[inline(always)]
    pub const fn pins(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// The change was made.
    #[inline(always)]
    pub const fn is_made(self) -> bool {
        self.0 & (Self::GONE | Self::FULL | BUSY) == 0
    }

    /// What differs between two words of one record, `moved` pins apart. Without a branch: to the verifier each
    /// would be one more way through the program.
    #[inline(always)]
    fn between<W: Word>(word: W, old: u64, new: u64, moved: u64) -> Self {
        let (before, after) = (is_some(word, pins(old)), is_some(word, pins(new)));
        let leased = is_some(word, leases(new));
        let both_before = before & is_some(word, leases(old));
        let both_after = after & leased;
        // A guard is added here or not, but never taken away.
        let guards = (new & GUARDS).wrapping_sub(old & GUARDS) / GUARD;
        Self(
            word.unknown(moved)
                + guards * Self::GUARDED
                + (after & !before) * Self::FIRST
                + (before & !after) * Self::LAST
                + (old & ZOMBIE) / ZOMBIE * Self::WAS_ZOMBIE
                + ((old & !new & TOLD) << Self::ENDS)
                + leased * Self::LEASED
                + (both_after & !both_before) * Self::COVERED
                + (both_before & !both_after) * Self::UNCOVERED,
        )
    }
}

/// 1 if `n` is not 0, else 0; without a branch.
#[inline(always)]
fn is_some<W: Word>(word: W, n: u64) -> u64 {
    word.opaque(n | n.wrapping_neg()) >> 63
}

/// Adds `n` pins to the word of a stake.
#[inline(always)]
pub fn pin<W: Word>(word: W, generation: u64, n: u64) -> Change {
    add(word, generation, n, GUARD)
}

/// Adds `n` pins to the word of an inode, of which nobody is told.
#[inline(always)]
pub fn pin_inode<W: Word>(word: W, generation: u64, n: u64) -> Change {
    add(word, generation, n, 0)
}

#[inline(always)]
fn add<W: Word>(word: W, generation: u64, n: u64, guards: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        if n > MOST_PINS || pins(old) > MOST_PINS - n {
            return Change(Change::FULL);
        }
        let first = 1 - is_some(word, pins(old));
        let guard = guards * first;
        // Of a word without guards nobody is told.
        let bare = if guards == 0 {
            0
        } else {
            first & !is_some(word, old & (LEASES | BARE))
        };
        let new = (old + n * PIN + guard) | (bare * BARE);
        let has_room = (old & GUARDS) + guard <= GUARDS;
        if has_room && word.swap_if(old, new) {
            return Change(Change::between(word, old, new, n).0 + bare * Change::BARE);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// Takes `n` pins out of the word of a stake, or as many as there are. With the last of them a zombie is
/// at rest, and bare pins end, unless somebody is just telling of the stake: then [`told`] says so. The count is how
/// many were taken.
#[inline(always)]
pub fn unpin<W: Word>(word: W, generation: u64, n: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        let had = pins(old);
        if had == 0 {
            return Change(0);
        }
        let taken = if n < had { n } else { had };
        let last = 1 - is_some(word, had - taken);
        let rest = last & !is_some(word, old & GUARDS);
        let new = ((old - taken * PIN) & !(rest * TOLD)) + last * GUARD;
        let has_room = (old & GUARDS) + last * GUARD <= GUARDS;
        if has_room && word.swap_if(old, new) {
            return Change::between(word, old, new, taken);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// Whoever made a change with [`Change::GUARDED`] has told of it. If meanwhile the last pin of a zombie, or of bare
/// pins, went, that is to be told, too, and this called again.
#[inline(always)]
pub fn told<W: Word>(word: W, generation: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        let is_over = old & GUARDS == GUARD && pins(old) == 0 && old & TOLD != 0;
        let new = if is_over { old & !TOLD } else { old - GUARD };
        if word.swap_if(old, new) {
            return if is_over {
                Change((old & TOLD) << Change::ENDS | Change::GUARDED)
            } else {
                Change(0)
            };
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// Adds a lease.
#[inline(always)]
pub fn lease<W: Word>(word: W, generation: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        if leases(old) == LEASES {
            return Change(Change::FULL);
        }
        let new = old + LEASE;
        if word.swap_if(old, new) {
            return Change::between(word, old, new, 0);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// Takes a lease out without judging anybody: it was counted by mistake, or covers nothing any more. The
/// lease is in the word, which keeps the record; so nothing can be in its way.
#[inline(always)]
pub fn unlease<W: Word>(word: W) -> Change {
    let old = word.add(LEASE.wrapping_neg());
    Change::between(word, old, old - LEASE, 0)
}

/// The same of a lease that another process has set, if there are no pins: it covers nothing.
/// [`Change::NO_LEASE`]: there are, and it is left.
#[inline(always)]
pub fn unlease_unpinned<W: Word>(word: W, generation: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        if pins(old) > 0 || leases(old) == 0 {
            return Change(Change::NO_LEASE);
        }
        if word.swap_if(old, old - LEASE) {
            return Change(0);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// Pins that came as bare ones are none, and nobody was told so: a lease covers them that was not known. The caller
/// has left a guard.
#[inline(always)]
pub fn never_bare<W: Word>(word: W, generation: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        if old & BARE == 0 || word.swap_if(old, old & !BARE) {
            return Change(0);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// A lease ended: takes it out. If it was the last and pins are left, this is a breach, and the word
/// is that of a zombie; if they came as bare ones, that ends with it.
#[inline(always)]
pub fn lease_end<W: Word>(word: W, generation: u64) -> Change {
    let mut left = W::TRIES;
    loop {
        let old = word.load();
        if !is_of(old, generation) {
            return Change(Change::GONE);
        }
        if leases(old) == 0 {
            return Change(Change::NO_LEASE);
        }
        let left_over = old - LEASE;
        let breach = is_some(word, pins(left_over)) & !is_some(word, leases(left_over));
        let new = ((left_over | (breach * ZOMBIE)) & !(breach * BARE)) + breach * GUARD;
        let has_room = (old & GUARDS) + breach * GUARD <= GUARDS;
        if has_room && word.swap_if(old, new) {
            let of_breach = Change::BREACH + pins(new) + (!old & ZOMBIE) / ZOMBIE * Change::ZOMBIE;
            return Change(Change::between(word, old, new, 0).0 + breach * of_breach);
        }
        if !again(&mut left) {
            return Change(BUSY);
        }
    }
}

/// A lease ended, and there are no pins: takes it out, so that there is nothing to judge. False if there
/// are, or if somebody else was faster: then [`lease_end`] is to be called.
#[inline(always)]
pub fn end_unpinned<W: Word>(word: W, generation: u64) -> bool {
    let old = word.load();
    is_of(old, generation) && leases(old) > 0 && pins(old) == 0 && word.swap_if(old, old - LEASE)
}

/// Whether it has neither pins nor leases.
#[inline(always)]
pub const fn has_nothing(word: u64) -> bool {
    pins(word) == 0 && leases(word) == 0
}

/// Whether one lease less would leave pins without any.
#[inline(always)]
pub const fn is_last_cover(word: u64) -> bool {
    leases(word) == 1 && pins(word) > 0
}

/// Ends a record that has neither lease nor pin; whether this did it. Nobody changes its word any more.
#[inline(always)]
pub fn bury<W: Word>(word: W, generation: u64) -> bool {
    let empty = fresh(generation);
    word.load() == empty && word.swap_if(empty, empty & !LIVE)
}
