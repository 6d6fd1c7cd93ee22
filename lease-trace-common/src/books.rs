//! What keeps the words of an inode and of its stakes together. Every change of pins goes through here, on
//! the kernel side and in the model test alike.
//!
//! # What holds
//!
//! For each inode, of all pins that were counted and are not yet credited to anybody:
//!
//! 1. **inode >= stakes + unowned.** The inode's word counts the pins of all stakes and those that no stake
//!    has (`unowned`). Whoever adds, adds to the inode first; whoever takes out, takes out of it last. When
//!    nobody is in the middle, both sides are equal.
//! 2. **owed <= inode.** A release that nobody can be credited with is *owed*: the inode's pins less what
//!    is owed are those that there really are. What is owed is taken out of a stake as soon as it is known
//!    whose it was: when there is but one owner, or when all that the inode counts is owed.
//! 3. **A record lives while its word is not empty**, and 1 keeps the inode's word from being empty while a
//!    stake has pins. Each of the words says which record it is of, and a change that is meant for another
//!    one fails.
//! 4. **Nothing is taken that is not there.** Each of the words is changed by compare-and-swap, which takes
//!    out `n` or what there is, and says how many; just so many are moved on.
//!
//! By 4 what is taken from one word arrives in the next, so at rest 1 and 2 hold whatever the order of the
//! steps was; this is why the counts cannot drift. `tests/interleavings.rs` tries many orders.

use crate::{
    batch,
    tagged::{self, owners},
    word::{self, Change, PIN, Word, pins},
};

/// The words of one inode record.
#[derive(Clone, Copy)]
pub struct Words<W> {
    /// Leases and pins of all owners.
    pub word: W,
    /// Owners of pins, see [`owners`].
    pub owners: W,
    /// Pins that no stake has: of short term, or of a stake that found no room.
    pub unowned: W,
    /// Releases that nobody was credited with so far.
    pub owed: W,
    /// See [`batch`].
    pub batch: W,
    /// The record's id; its lower bits are its generation.
    pub id: u64,
}

/// A stake's word.
#[derive(Clone, Copy)]
pub struct Stake<W> {
    pub word: W,
    pub generation: u64,
    pub tgid: u32,
}

/// Where the words are, and who wants to know what became of them.
pub trait Books: Copy {
    type Word: Word;

    /// So many pins, or fewer, are not worth a batch.
    const LEAST: u64 = 8;

    /// Those of the inode.
    fn words(self) -> Words<Self::Word>;

    /// That of a process's stake in it, if there is one.
    fn stake(self, tgid: u32) -> Option<Stake<Self::Word>>;

    /// The inode came to have pins.
    fn pinned(self);

    /// The inode's last pin went.
    fn unpinned(self);

    /// Pins of a stake went.
    fn dropped(self, stake: Stake<Self::Word>, change: Change);

    /// Who lets go of pins now, where the inode has several owners, as far as that is known.
    fn releaser(self) -> Option<u32>;

    /// Who has pins of long term and lets go of such now, as far as that is known: asked only while the inode has pins
    /// that nobody owns, too.
    fn long_releaser(self) -> Option<u32>;

    /// So many of the pins that nobody owns were dropped, and they may have been an owner's: he has fewer then than he
    /// counts, until as many of nobody's are dropped.
    fn may_be_owned(self, n: u64);

    /// Calls [`pay`] for every owner.
    fn pay_all(self);

    /// [`settle_once`]: where that is to be a function of its own, it is this one.
    #[inline(always)]
    fn settle_once(self) -> bool {
        settle_once(self)
    }

    /// [`close_batch`]: the same.
    #[inline(always)]
    fn close_batch(self) -> u64 {
        close_batch(self)
    }

    /// Credits a process, see [`credit`]: where that is to be a function of its own, it is this one.
    #[inline(always)]
    fn credit(self, tgid: u32, n: u64) -> u64 {
        credit(self, tgid, n)
    }
}

/// What is known of the pins that are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// They were taken for the long term: a stake has them.
    Long,
    /// They were taken for a short time: nobody owns them.
    Short,
    Unknown,
}

/// The generation of an inode record.
#[inline(always)]
pub const fn generation(id: u64) -> u64 {
    id & word::MOST_GENERATION
}

/// Counts `n` pins in the inode; false if the record is gone or has no room. They must be given to a
/// stake by [`give`], or to nobody by [`leave_unowned`].
#[inline(always)]
pub fn enter<B: Books>(books: B, n: u64) -> Change {
    let Words { word, id, .. } = books.words();
    let change = word.pin_inode(generation(id), n);
    if change.is(Change::FIRST) {
        books.pinned();
    }
    change
}

/// Gives pins that were entered to a stake.
#[inline(always)]
pub fn give<B: Books>(books: B, stake: Stake<B::Word>, n: u64) -> Change {
    let change = stake.word.pin(stake.generation, n);
    if change.is(Change::FIRST) {
        let Words { owners, id, .. } = books.words();
        owners::add(owners, generation(id), stake.tgid);
    }
    change
}

/// Pins that were entered are nobody's.
#[inline(always)]
pub fn leave_unowned<B: Books>(books: B, n: u64) {
    let Words { unowned, id, .. } = books.words();
    let added = unowned.count_up(generation(id), n, tagged::MOST);
    leave(books, n - added);
}

/// Takes out of the inode what was taken out of a stake or out of the unowned before. Without a look at
/// the word: by the first rule it is this record's, and counts these pins.
#[inline(always)]
fn leave<B: Books>(books: B, n: u64) {
    if n == 0 {
        return;
    }
    let old = books.words().word.add((n * PIN).wrapping_neg());
    if pins(old) == n {
        books.unpinned();
    }
}

/// Credits a process with up to `n` releases; returns how many pins it had for that.
#[inline(always)]
pub fn credit<B: Books>(books: B, tgid: u32, n: u64) -> u64 {
    let Some(stake) = books.stake(tgid) else {
        return 0;
    };
    let change = stake.word.unpin(stake.generation, n);
    let taken = change.pins();
    if taken == 0 {
        return 0;
    }
    if change.is(Change::LAST) {
        let Words { owners, id, .. } = books.words();
        owners::sub(owners, generation(id), tgid);
    }
    books.dropped(stake, change);
    leave(books, taken);
    taken
}

/// Drops up to `n` pins that nobody owns; returns how many there were.
#[inline(always)]
pub fn drop_unowned<B: Books>(books: B, n: u64) -> u64 {
    let Words { unowned, id, .. } = books.words();
    let taken = unowned.count_down(generation(id), n);
    leave(books, taken);
    taken
}

/// `n` pins were dropped; returns how many of them were never counted.
///
/// The batch is closed whenever something was taken out of a stake: one that was opened meanwhile may be
/// of pins that the stake has not got any more.
#[inline(always)]
pub fn release<B: Books>(books: B, n: u64, term: Term) -> u64 {
    let mut uncounted = credit_release(books, n, term) + books.close_batch();
    if is_owed(books) {
        settle(books);
        uncounted += books.close_batch();
    }
    uncounted
}

#[inline(always)]
fn credit_release<B: Books>(books: B, n: u64, term: Term) -> u64 {
    let mut left = n;
    if !matches!(term, Term::Long) {
        // While a transfer is under way that one process has asked for, another may let go of what it owns.
        if matches!(term, Term::Unknown)
            && has_unowned(books)
            && let Some(tgid) = books.long_releaser()
        {
            left -= books.credit(tgid, left);
        }
        let taken = drop_unowned(books, left);
        if taken > 0 && matches!(term, Term::Unknown) {
            books.may_be_owned(taken);
        }
        left -= taken;
        if left == 0 || matches!(term, Term::Short) {
            return left;
        }
    }
    if let Some(tgid) = sole_owner(books).or_else(|| books.releaser()) {
        left -= books.credit(tgid, left);
    }
    if left == 0 {
        0
    } else {
        left - owe(books, left)
    }
}

/// Takes what is owed out of the stake of the only owner, where there is but one. After pins were taken
/// this is enough: they do not make all pins owed.
#[inline(always)]
pub fn settle_sole<B: Books>(books: B) {
    if let Owed::By(tgid) = owed(books) {
        pay(books, tgid);
    }
}

/// How often it is looked again at what is owed. Whoever pays holds what is owed meanwhile, so that nobody
/// else sees it; what he could not pay he puts back, and then looks again.
const ROUNDS: u32 = 4;

/// Takes what is owed out of the stakes that it is now known to belong to. The batch is to be closed
/// afterwards.
#[inline(always)]
pub fn settle<B: Books>(books: B) {
    for _ in 0..ROUNDS {
        if !books.settle_once() {
            break;
        }
    }
}

/// One look at what is owed; whether anything was done, so that it is to be looked at again. The batch is
/// to be closed afterwards.
#[inline(always)]
pub fn settle_once<B: Books>(books: B) -> bool {
    match owed(books) {
        Owed::Nothing => return false,
        Owed::By(tgid) => {
            if !pay(books, tgid) {
                return false;
            }
        }
        Owed::All => {
            pay_unowned(books);
            books.pay_all();
            forgive(books);
        }
    }
    true
}

/// Nobody is known to be credited with `n` releases; returns how many of them can have been counted.
#[inline(always)]
pub fn owe<B: Books>(books: B, n: u64) -> u64 {
    let Words { word, owed, id, .. } = books.words();
    let now = word.load();
    if !word::is_of(now, generation(id)) {
        return 0;
    }
    owed.count_up(generation(id), n, pins(now))
}

/// Releases that nobody was credited with.
#[inline(always)]
pub fn how_much_is_owed<B: Books>(books: B) -> u64 {
    let Words { owed, id, .. } = books.words();
    tagged::get(owed, generation(id))
}

/// Whether anything is owed.
#[inline(always)]
pub fn is_owed<B: Books>(books: B) -> bool {
    how_much_is_owed(books) != 0
}

/// Whose pins a release in this inode is if there is but one owner.
#[inline(always)]
pub fn sole_owner<B: Books>(books: B) -> Option<u32> {
    let Words { owners, id, .. } = books.words();
    owners::sole(tagged::get(owners, generation(id)))
}

/// What is to be done about what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing is owed, or it is not known by whom.
    Nothing,
    /// This process owes it.
    By(u32),
    /// All pins that are counted are owed: nobody has any.
    All,
}

/// Looked at after each change, by whoever made it: so whoever makes the last one of several sees what
/// all of them came to.
#[inline(always)]
pub fn owed<B: Books>(books: B) -> Owed {
    let Words {
        word,
        owed,
        unowned,
        id,
        ..
    } = books.words();
    let there = tagged::get(owed, generation(id));
    if there == 0 {
        return Owed::Nothing;
    }
    if there >= pins(word.load()) {
        return Owed::All;
    }
    match sole_owner(books) {
        Some(tgid) if tagged::get(unowned, generation(id)) == 0 => Owed::By(tgid),
        _ => Owed::Nothing,
    }
}

/// Takes what is owed out of this process's stake; false if it had nothing for that.
#[inline(always)]
pub fn pay<B: Books>(books: B, tgid: u32) -> bool {
    pay_by(books, |n| books.credit(tgid, n))
}

/// Takes what is owed out of what `credit` finds for it; false if that is nothing.
#[inline(always)]
pub fn pay_by<B: Books>(books: B, credit: impl Fn(u64) -> u64) -> bool {
    let Words { owed, id, .. } = books.words();
    let n = owed.count_down(generation(id), tagged::MOST);
    if n == 0 {
        return false;
    }
    let paid = credit(n);
    owed.count_up(generation(id), n - paid, tagged::MOST);
    paid > 0
}

/// Takes what is owed out of the pins that nobody owns.
#[inline(always)]
fn pay_unowned<B: Books>(books: B) {
    pay_by(books, |n| drop_unowned(books, n));
}

/// Without pins nothing is owed: it was for pins that were never counted.
#[inline(always)]
fn forgive<B: Books>(books: B) {
    let Words { word, owed, id, .. } = books.words();
    let there = owed.load();
    if tagged::value(there, generation(id)).is_some() && pins(word.load()) == 0 {
        owed.swap_if(there, tagged::fresh(generation(id)));
    }
}

/// Closes the inode's batch, and takes out what was dropped by it; returns how many of these were never
/// counted. Whoever opens one in the middle does not know that the stake has fewer pins; so it is closed,
/// too.
#[inline(always)]
pub fn close_batch<B: Books>(books: B) -> u64 {
    let Words { batch, id, .. } = books.words();
    let mut uncounted = 0;
    for _ in 0..ROUNDS {
        let closed = batch.close_batch(id);
        let n = batch::dropped(closed);
        if n == 0 {
            break;
        }
        let missing = n - books.credit(batch::owner(closed), n);
        if missing > 0 {
            uncounted += missing - owe(books, missing);
        }
    }
    uncounted
}

/// Whether the inode has pins that no stake has.
#[inline(always)]
fn has_unowned<B: Books>(books: B) -> bool {
    let Words { unowned, id, .. } = books.words();
    tagged::get(unowned, generation(id)) != 0
}

/// Whose batch there can be: the only owner's, if nobody else's pins are in the inode.
#[inline(always)]
pub fn entitled<B: Books>(books: B) -> Option<u32> {
    if has_unowned(books) {
        return None;
    }
    sole_owner(books)
}

/// Opens a batch for the only owner, if there is one with enough pins. Whoever comes to own pins, or
/// judges by how many there are, closes it afterwards; and here it is looked afterwards whether it may
/// stand. So one of the two sees the other.
#[inline(always)]
pub fn open_batch<B: Books>(books: B) {
    let Words {
        word, batch, id, ..
    } = books.words();
    let Some(tgid) = entitled(books) else { return };
    let Some(stake) = books.stake(tgid) else {
        return;
    };
    let (all, own) = (pins(word.load()), pins(stake.word.load()));
    let there = if own < all { own } else { all };
    if there <= B::LEAST {
        return;
    }
    let n = if there > batch::MOST {
        batch::MOST
    } else {
        there - 1
    };
    if !batch.swap_if(0, batch::new(id, tgid, n)) {
        return;
    }
    let now = stake.word.load();
    let stands = entitled(books) == Some(tgid)
        && word::is_of(now, stake.generation)
        && pins(now) > n
        && pins(word.load()) > n;
    if !stands {
        close_batch(books);
    }
}
