//! Laws of the stake's state machine: any sequence of operations, checked against a plain model
//! that keeps leases and pins apart.

use lease_trace_common::stake::{
    DEAD, LEASE, MOST_ALLOWANCE, PIN, Pinned, State, Unpinned, ZOMBIE, after_lease_end, after_mark,
    after_pin, after_unpin, allowance, allowance_owner, leases, owner, owner_count, pins, settled,
    sole_owner, spend, spent, state,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    SetLease,
    EndLease,
    Pin(u64),
    Unpin(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::SetLease),
        Just(Op::EndLease),
        (1_u64..600).prop_map(Op::Pin),
        (1_u64..600).prop_map(Op::Unpin),
    ]
}

/// The word as the kernel side drives it.
#[derive(Default)]
struct Word(u64);

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Born(u64),
    Rest,
    Bare,
}

impl Word {
    fn apply(&mut self, op: Op) -> Seen {
        let old = self.0;
        match op {
            Op::SetLease => {
                self.0 += LEASE;
                Seen::Nothing
            }
            Op::EndLease => {
                self.0 = self.0.wrapping_sub(LEASE);
                let Some(left) = after_lease_end(old) else {
                    return Seen::Nothing;
                };
                let marked = self.0;
                self.0 |= ZOMBIE;
                assert!(!after_mark(marked), "nobody else is there to take the pins");
                Seen::Born(left)
            }
            Op::Pin(n) => {
                self.0 = self.0.wrapping_add(n * PIN);
                match after_pin(old) {
                    Pinned::Bare => Seen::Bare,
                    Pinned::First | Pinned::More | Pinned::Dead => Seen::Nothing,
                }
            }
            Op::Unpin(n) => {
                self.0 = self.0.wrapping_sub(n * PIN);
                let at_rest = match after_unpin(old, n) {
                    Unpinned::Some | Unpinned::Last => false,
                    Unpinned::AtRest => true,
                    Unpinned::Excess { excess, at_rest } => {
                        self.0 = self.0.wrapping_add(excess * PIN);
                        at_rest
                    }
                };
                if at_rest {
                    self.0 &= !ZOMBIE;
                    return Seen::Rest;
                }
                Seen::Nothing
            }
        }
    }
}

/// The same without bit tricks.
#[derive(Default)]
struct Model {
    leases: u64,
    pins: u64,
    zombie: bool,
}

impl Model {
    fn apply(&mut self, op: Op) -> Seen {
        match op {
            Op::SetLease => self.leases += 1,
            Op::EndLease => {
                self.leases -= 1;
                if self.leases == 0 && self.pins > 0 && !self.zombie {
                    self.zombie = true;
                    return Seen::Born(self.pins);
                }
            }
            Op::Pin(n) => {
                let first = self.pins == 0;
                self.pins += n;
                if first && self.leases == 0 {
                    return Seen::Bare;
                }
            }
            Op::Unpin(n) => {
                let had = self.pins;
                self.pins = had.saturating_sub(n);
                if had > 0 && self.pins == 0 && self.zombie {
                    self.zombie = false;
                    return Seen::Rest;
                }
            }
        }
        Seen::Nothing
    }

    fn state(&self) -> State {
        match (self.pins > 0, self.leases > 0) {
            (true, _) if self.zombie => State::Zombie,
            (true, true) => State::Covered,
            (true, false) => State::BarePin,
            (false, true) => State::Leased,
            (false, false) => State::Empty,
        }
    }
}

proptest! {
    #[test]
    fn the_word_does_what_the_model_does(ops in prop::collection::vec(op(), 0..200)) {
        let (mut word, mut model) = (Word::default(), Model::default());
        for op in ops {
            // A lease that is not there cannot end: its record decides that before the word.
            if matches!(op, Op::EndLease) && model.leases == 0 {
                continue;
            }
            prop_assert_eq!(word.apply(op), model.apply(op), "{:?}", op);
            prop_assert_eq!(leases(word.0), model.leases);
            prop_assert_eq!(pins(word.0), model.pins);
            prop_assert_eq!(state(word.0), model.state());
        }
    }

    /// Every zombie that is born is laid to rest once, and never the other way round.
    #[test]
    fn births_and_rests_alternate(ops in prop::collection::vec(op(), 0..200)) {
        let (mut word, mut held, mut alive) = (Word::default(), 0_u32, false);
        for op in ops {
            match op {
                Op::SetLease => held += 1,
                Op::EndLease if held == 0 => continue,
                Op::EndLease => held -= 1,
                Op::Pin(_) | Op::Unpin(_) => {}
            }
            match word.apply(op) {
                Seen::Born(left) => {
                    prop_assert!(!alive && left > 0);
                    alive = true;
                }
                Seen::Rest => {
                    prop_assert!(alive);
                    alive = false;
                }
                Seen::Nothing | Seen::Bare => {}
            }
        }
    }

    /// The owners' word names the only one, whoever came and went before.
    #[test]
    fn the_sole_owner_is_named(tgids in prop::collection::vec(1_u32..4_194_304, 1..50)) {
        let mut owners = 0_u64;
        for tgid in &tgids {
            owners = owners.wrapping_add(owner(*tgid));
        }
        prop_assert_eq!(owner_count(owners), tgids.len() as u64);
        for gone in &tgids[1..] {
            owners = owners.wrapping_sub(owner(*gone));
        }
        prop_assert_eq!(sole_owner(owners), Some(tgids[0]));
    }
}

/// The last pin goes on another CPU between the end of the lease and the mark.
#[test]
fn a_zombie_whose_pins_went_before_the_mark_is_reported_at_rest_by_the_marker() {
    let mut word = LEASE + 256 * PIN;
    let born = after_lease_end(word);
    word -= LEASE;
    assert_eq!(born, Some(256));
    assert_eq!(
        after_unpin(word, 256),
        Unpinned::Last,
        "the other CPU cannot see a zombie"
    );
    word -= 256 * PIN;
    assert!(after_mark(word));
}

#[test]
fn a_record_that_is_being_deleted_takes_no_pins() {
    assert_eq!(after_pin(DEAD), Pinned::Dead);
    assert_eq!(after_pin(DEAD | PIN), Pinned::Dead);
}

#[test]
fn pins_taken_away_twice_leave_the_leases_alone() {
    let old = LEASE + 3 * PIN;
    let word = old.wrapping_sub(5 * PIN);
    let Unpinned::Excess { excess, at_rest } = after_unpin(old, 5) else {
        panic!("no excess")
    };
    let word = word.wrapping_add(excess * PIN);
    assert_eq!((pins(word), leases(word), at_rest), (0, 1, false));
}

proptest! {
    /// However many pins are dropped by an allowance and whenever it is taken back, stake and allowance
    /// together say how many there are, only one owner's are dropped by it, and the last never is.
    #[test]
    fn what_an_allowance_drops_is_not_lost(drops in prop::collection::vec((1..3u32, 1..2000u64), 0..60)) {
        let all = 40_000;
        let mut words = [all * PIN; 2];
        let mut left = [all; 2];
        let mut value = 0;
        for (tgid, n) in drops {
            let own = tgid as usize - 1;
            let n = n.min(left[own]);
            let fits = if value != 0 && allowance_owner(value) == tgid { spend(value, n) } else { None };
            if let Some(new) = fits {
                value = new;
            } else {
                // As `allowance_deduct` does, then the release itself, then the next allowance.
                if value != 0 {
                    words[allowance_owner(value) as usize - 1] -= spent(value) * PIN;
                }
                words[own] -= n * PIN;
                let most = pins(words[own]).saturating_sub(1).min(MOST_ALLOWANCE);
                value = if most > 0 { allowance(u64::MAX, tgid, most) } else { 0 };
                prop_assert_eq!(spent(value), 0);
            }
            left[own] -= n;
            for tgid in [1, 2] {
                let own = tgid as usize - 1;
                let word = settled(words[own], tgid, value);
                prop_assert_eq!(pins(word), left[own]);
                prop_assert_eq!(pins(words[own]) == 0, left[own] == 0);
            }
        }
    }
}

#[test]
fn more_than_a_stake_has_is_not_taken_from_it() {
    let value = spend(allowance(1, 7, 9), 5).expect("so many are left");
    assert_eq!(settled(4 * PIN, 7, value), 4 * PIN);
    assert_eq!(settled((6 * PIN) | 1, 7, value), PIN | 1);
    assert_eq!(settled(6 * PIN, 8, value), 6 * PIN, "somebody else's");
    assert_eq!(settled(6 * PIN, 0, 0), 6 * PIN);
    assert_eq!(spend(value, 5), None);
    assert_eq!(spend(0, 1), None);
}

#[test]
fn an_allowance_is_of_one_inode_and_one_owner() {
    let value = allowance(5, (4 << 20) - 1, MOST_ALLOWANCE);
    assert_eq!(allowance_owner(value), (4 << 20) - 1);
    assert_eq!(spent(value), 0);
    assert_ne!(value, allowance(6, (4 << 20) - 1, MOST_ALLOWANCE));
    let none_left = spend(value, MOST_ALLOWANCE).expect("all of it");
    assert_eq!(spent(none_left), MOST_ALLOWANCE);
}
