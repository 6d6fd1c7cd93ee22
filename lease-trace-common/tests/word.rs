//! Laws of a word: any sequence of changes, checked against a plain model that keeps leases, pins
//! and the record apart.

use std::cell::Cell;

use lease_trace_common::word::{
    self, BARE, BUSY, Change, LEASE, MOST_GENERATION, MOST_PINS, PIN, Word, ZOMBIE, bury, fresh,
    generation, is_last_cover, is_of, leases, pins,
};
use proptest::prelude::*;

/// A word that nobody else changes.
#[derive(Clone, Copy)]
struct Alone<'a>(&'a Cell<u64>);

impl Word for Alone<'_> {
    const TRIES: u64 = 1;

    fn load(self) -> u64 {
        self.0.get()
    }

    fn swap_if(self, old: u64, new: u64) -> bool {
        let is_old = self.0.get() == old;
        if is_old {
            self.0.set(new);
        }
        is_old
    }

    fn add(self, n: u64) -> u64 {
        self.0.replace(self.0.get().wrapping_add(n))
    }
}

/// A word that is always changed by somebody else between a load and a swap.
#[derive(Clone, Copy)]
struct Restless(u64);

impl Word for Restless {
    const TRIES: u64 = 4;

    fn load(self) -> u64 {
        self.0
    }

    fn swap_if(self, _: u64, _: u64) -> bool {
        false
    }

    fn add(self, _: u64) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Pin(u64),
    Unpin(u64),
    Lease,
    Unlease,
    EndLease,
    Bury,
    /// The record is deleted, whatever it has, and its memory is another one's.
    Renew,
    /// The same by somebody who still means the record before.
    Late(&'static Op),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1_u64..600).prop_map(Op::Pin),
        3 => (1_u64..600).prop_map(Op::Unpin),
        2 => Just(Op::Lease),
        1 => Just(Op::Unlease),
        2 => Just(Op::EndLease),
        1 => Just(Op::Bury),
        1 => Just(Op::Renew),
        1 => prop_oneof![
            Just(Op::Late(&Op::Pin(3))),
            Just(Op::Late(&Op::Unpin(3))),
            Just(Op::Late(&Op::Lease)),
            Just(Op::Late(&Op::Unlease)),
            Just(Op::Late(&Op::EndLease)),
            Just(Op::Late(&Op::Bury)),
        ],
    ]
}

/// What a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    generation: u64,
    is_live: bool,
    pins: u64,
    leases: u64,
    is_zombie: bool,
    is_bare: bool,
}

impl Model {
    fn of(word: u64, model: Model) -> Self {
        Self {
            generation: word >> 16 & MOST_GENERATION,
            is_live: generation(word) == Some(model.generation),
            pins: pins(word),
            leases: leases(word),
            is_zombie: word & ZOMBIE != 0,
            is_bare: word & BARE != 0,
        }
    }

    fn has_both(self) -> bool {
        self.pins > 0 && self.leases > 0
    }

    /// The bits of a change, as they follow from what was and what is.
    fn bits(self, new: Model) -> u64 {
        let mut bits = 0;
        for (bit, is_set) in [
            (Change::FIRST, self.pins == 0 && new.pins > 0),
            (Change::LAST, self.pins > 0 && new.pins == 0),
            (Change::WAS_ZOMBIE, self.is_zombie),
            (Change::AT_REST, self.is_zombie && !new.is_zombie),
            (Change::BARE, !self.is_bare && new.is_bare),
            (Change::BARE_END, self.is_bare && !new.is_bare),
            (Change::COVERED, !self.has_both() && new.has_both()),
            (Change::UNCOVERED, self.has_both() && !new.has_both()),
            (Change::LEASED, new.leases > 0),
        ] {
            if is_set {
                bits |= bit;
            }
        }
        bits
    }

    /// Carries `op` out, and says what it must have told.
    fn apply(&mut self, op: Op) -> u64 {
        let old = *self;
        if !self.is_live {
            return Change::GONE;
        }
        match op {
            Op::Pin(n) => {
                self.is_bare |= self.pins == 0 && self.leases == 0;
                self.pins += n;
                old.bits(*self) | n
            }
            Op::Unpin(_) if self.pins == 0 => 0,
            Op::Unpin(n) => {
                let taken = n.min(self.pins);
                self.pins -= taken;
                self.is_zombie &= self.pins > 0;
                self.is_bare &= self.pins > 0;
                old.bits(*self) | taken
            }
            Op::Lease => {
                self.leases += 1;
                old.bits(*self)
            }
            Op::EndLease if self.leases == 0 => Change::NO_LEASE,
            Op::Unlease => {
                self.leases -= 1;
                old.bits(*self)
            }
            Op::EndLease => {
                self.leases -= 1;
                let is_breach = self.leases == 0 && self.pins > 0;
                self.is_zombie |= is_breach;
                self.is_bare &= !is_breach;
                let mut bits = old.bits(*self);
                if is_breach {
                    bits |= Change::BREACH | self.pins;
                    if !old.is_zombie {
                        bits |= Change::ZOMBIE;
                    }
                }
                bits
            }
            Op::Bury | Op::Renew | Op::Late(_) => unreachable!("not a change of counts"),
        }
    }
}

fn change(word: Alone<'_>, generation: u64, op: Op) -> Change {
    match op {
        Op::Pin(n) => word::pin(word, generation, n),
        Op::Unpin(n) => word::unpin(word, generation, n),
        Op::Lease => word::lease(word, generation),
        Op::Unlease => word::unlease(word),
        Op::EndLease => word::lease_end(word, generation),
        Op::Bury | Op::Renew | Op::Late(_) => unreachable!("not a change of counts"),
    }
}

proptest! {
    #[test]
    fn a_word_is_what_the_model_is(first in 0_u64..MOST_GENERATION, ops in prop::collection::vec(op(), 0..80)) {
        let cell = Cell::new(fresh(first));
        let word = Alone(&cell);
        let mut model = Model { generation: first, is_live: true, pins: 0, leases: 0, is_zombie: false, is_bare: false };
        for op in ops {
            let last_cover = is_last_cover(cell.get());
            match op {
                Op::Bury => {
                    let is_empty = model.is_live && model.pins == 0 && model.leases == 0;
                    prop_assert_eq!(bury(word, model.generation), is_empty);
                    model.is_live &= !is_empty;
                }
                Op::Renew => {
                    let next = (model.generation + 1) & MOST_GENERATION;
                    cell.set(fresh(next));
                    model = Model { generation: next, is_live: true, pins: 0, leases: 0, is_zombie: false, is_bare: false };
                }
                Op::Late(late) => {
                    let (before, there) = (model.generation.wrapping_sub(1) & MOST_GENERATION, cell.get());
                    match *late {
                        Op::Bury => prop_assert!(!bury(word, before)),
                        Op::Unlease => {}
                        late => prop_assert_eq!(change(word, before, late), Change(Change::GONE)),
                    }
                    prop_assert_eq!(cell.get(), there);
                }
                // It is called for a lease that is in the word.
                Op::Unlease if model.leases == 0 => {}
                _ => {
                    let told = change(word, model.generation, op);
                    let expected = model.apply(op);
                    let is_heard = told.is(Change::FIRST | Change::LAST | Change::BREACH);
                    prop_assert_eq!(told.is(Change::GUARDED), is_heard, "{:?}", op);
                    prop_assert_eq!(told.0 & !Change::GUARDED, expected, "{:?}", op);
                    if is_heard {
                        prop_assert!(!bury(word, model.generation), "a guard keeps the record");
                        prop_assert_eq!(word::told(word, model.generation), Change(0));
                    }
                    if let Op::EndLease = op {
                        prop_assert_eq!(told.is(Change::BREACH), last_cover, "a breach is foreseen");
                    }
                }
            }
            prop_assert_eq!(Model::of(cell.get(), model), model);
            prop_assert_eq!(is_of(cell.get(), model.generation), model.is_live);
            prop_assert!(!model.is_zombie || model.pins > 0, "a zombie has pins");
        }
    }
}

#[test]
fn a_full_word_takes_no_more() {
    let cell = Cell::new(fresh(7) + MOST_PINS * PIN);
    let word = Alone(&cell);
    assert!(word::pin(word, 7, 1).is(Change::FULL));
    assert!(word::unpin(word, 7, 1).is_made());
    assert!(word::pin(word, 7, 2).is(Change::FULL));
    assert!(word::pin(word, 7, u64::MAX).is(Change::FULL));
    assert!(word::pin(word, 7, 1).is_made());
    assert_eq!(
        (pins(cell.get()), generation(cell.get())),
        (MOST_PINS, Some(7))
    );

    let cell = Cell::new(fresh(7) + 0xffff * LEASE);
    assert!(word::lease(Alone(&cell), 7).is(Change::FULL));
    assert_eq!(cell.get(), fresh(7) + 0xffff * LEASE);
}

#[test]
fn an_end_without_a_lease_changes_nothing() {
    let there = fresh(9) + 5 * PIN;
    let cell = Cell::new(there);
    assert_eq!(word::lease_end(Alone(&cell), 9), Change(Change::NO_LEASE));
    assert_eq!(cell.get(), there);
}

#[test]
fn an_unborn_word_is_of_no_record() {
    let cell = Cell::new(0);
    assert_eq!(generation(0), None);
    assert_eq!(word::pin(Alone(&cell), 0, 1), Change(Change::GONE));
    assert!(!bury(Alone(&cell), 0));
    assert_eq!(cell.get(), 0);
}

#[test]
fn who_is_never_fast_enough_gives_up() {
    let word = Restless(fresh(3) + 2 * PIN + LEASE);
    for change in [
        word::pin(word, 3, 1),
        word::unpin(word, 3, 1),
        word::lease(word, 3),
        word::lease_end(word, 3),
        word::told(word, 3),
        word::unlease_unpinned(Restless(fresh(3) + LEASE), 3),
        word::never_bare(Restless(fresh(3) | BARE), 3),
    ] {
        assert_eq!(change, Change(BUSY));
        assert!(!change.is_made());
    }
    assert!(!bury(Restless(fresh(3)), 3));
}

/// The last pin goes while the birth of the zombie is being told: whoever tells of the birth tells of
/// the rest, too, and the record stays so long.
#[test]
fn the_rest_is_told_after_the_birth() {
    let cell = Cell::new(fresh(5) + 256 * PIN + LEASE);
    let word = Alone(&cell);
    let birth = word::lease_end(word, 5);
    assert!(birth.is(Change::ZOMBIE) && birth.is(Change::GUARDED));
    assert_eq!(birth.pins(), 256);
    let last = word::unpin(word, 5, 256);
    assert!(last.is(Change::LAST) && !last.is(Change::AT_REST));
    // Another processor, which dropped the pin, is done first.
    assert_eq!(word::told(word, 5), Change(0));
    assert!(!bury(word, 5));
    assert!(word::told(word, 5).is(Change::AT_REST));
    assert!(!bury(word, 5));
    assert_eq!(word::told(word, 5), Change(0));
    assert!(bury(word, 5));
}

/// The last bare pin goes, and new ones come, while the first are being told of.
#[test]
fn the_end_of_bare_pins_is_told_after_their_beginning() {
    let cell = Cell::new(fresh(5));
    let word = Alone(&cell);
    let first = word::pin(word, 5, 2);
    assert!(first.is(Change::FIRST) && first.is(Change::BARE));
    let last = word::unpin(word, 5, 2);
    assert!(last.is(Change::LAST) && !last.is(Change::BARE_END));
    let again = word::pin(word, 5, 1);
    assert!(again.is(Change::FIRST) && !again.is(Change::BARE));
    for _ in 0..3 {
        assert_eq!(word::told(word, 5), Change(0));
    }
    assert!(word::unpin(word, 5, 1).is(Change::BARE_END));
    assert_eq!(word::told(word, 5), Change(0));
    assert!(bury(word, 5));
}

#[test]
fn what_is_covered_after_all_is_not_bare() {
    let cell = Cell::new(fresh(5));
    let word = Alone(&cell);
    assert!(word::pin(word, 5, 2).is(Change::BARE));
    assert!(word::lease(word, 5).is(Change::COVERED));
    word::never_bare(word, 5);
    assert!(!word::unpin(word, 5, 2).is(Change::BARE_END));
}

#[test]
fn a_cover_with_pins_is_left() {
    let cell = Cell::new(fresh(5) + PIN + LEASE);
    let word = Alone(&cell);
    assert_eq!(word::unlease_unpinned(word, 5), Change(Change::NO_LEASE));
    word::unpin(word, 5, 1);
    assert_eq!(word::unlease_unpinned(word, 5), Change(0));
    assert_eq!(leases(cell.get()), 0);
}
