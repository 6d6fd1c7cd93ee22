//! Leases that cover a process which did not set them: its stake counts each while it has pins.
//!
//! A cover is in a map, by lease and process, and in the stake's word. It is put into the word first, and then into
//! the map; whoever takes it out of the map takes it out of the word. So it is taken out once, by who ends the lease
//! ([`remove`](Covers::remove)) or by who drops the last pin ([`forget`]), and who puts it in looks afterwards whether
//! the lease is in force still. Pins that come while a cover is being forgotten keep it. `tests/interleavings.rs`
//! tries many orders.

use crate::{
    idle::Of,
    word::{self, Change, Word, pins},
};

/// Key of a cover: a lease and a thread group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoverKey {
    /// Address of the `file_lease`.
    pub lease: u64,
    pub tgid: u32,
    zero: u32,
}

impl CoverKey {
    #[inline(always)]
    pub const fn new(lease: u64, tgid: u32) -> Self {
        Self {
            lease,
            tgid,
            zero: 0,
        }
    }
}

/// What became of [`Covers::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Done,
    /// It was there.
    Already,
    /// There is no room; that is told.
    NoRoom,
}

/// One lease and one stake that it covers.
pub trait Covers: Copy {
    type Word: Word;

    /// The stake's.
    fn word(self) -> Of<Self::Word>;

    /// Whether it is in the map.
    fn is_there(self) -> bool;

    /// Puts it into the map.
    fn insert(self) -> Inserted;

    /// Takes it out of the map; false if somebody else did.
    fn remove(self) -> bool;

    /// Whether the lease has not ended.
    fn is_in_force(self) -> bool;

    /// It counts one less, and nobody is judged. If that leaves pins without a lease, it has ended just then, or found
    /// no room, and that `is_told`.
    fn uncovered(self, change: Change, is_told: bool);
}

/// The lease covers the stake from now on, unless it does already: `covered` is told what became of the stake. One that
/// `has_pins` may lose them meanwhile. False if others were always faster.
#[inline(always)]
pub fn add<C: Covers>(cover: C, has_pins: bool, covered: impl FnOnce(Change)) -> bool {
    if cover.is_there() {
        return true;
    }
    let Of { word, generation } = cover.word();
    let change = word::lease(word, generation);
    if !change.is_made() {
        return change.0 != word::BUSY;
    }
    covered(change);
    keep(cover);
    if has_pins {
        forget(cover);
    }
    true
}

/// The stake's last pin went: the lease covers it no more, unless pins have come since.
#[inline(always)]
pub fn forget<C: Covers>(cover: C) {
    let Of { word, generation } = cover.word();
    if pins(word.load()) > 0 || !cover.remove() {
        return;
    }
    let change = word::unlease_unpinned(word, generation);
    if !change.is_made() || change.is(Change::NO_LEASE) {
        keep(cover);
    }
}

/// The stake counts it: it is put into the map, too, if the lease is in force.
#[inline(always)]
fn keep<C: Covers>(cover: C) {
    let inserted = cover.insert();
    if inserted == Inserted::Done && (cover.is_in_force() || !cover.remove()) {
        return;
    }
    // Where it was there already it is counted twice.
    let change = word::unlease(cover.word().word);
    cover.uncovered(change, inserted == Inserted::NoRoom);
}

/// What it covers, and who set it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    /// Inode id, see [`crate::stake::Inode::id`].
    pub inode: u64,
    /// Thread group id.
    pub setter: u64,
}

const _: () = assert!(size_of::<CoverKey>() == 16);
const _: () = assert!(size_of::<Covered>() == 16);

crate::pod!(CoverKey, Covered);
