//! Which pins are orphaned, by one walk over descriptors and mappings: their process has no
//! reference to the leased file any more, and somebody else has.

use std::collections::{BTreeSet, HashMap, HashSet};

use lease_trace_common::stake::{self, Stake, StakeKey, ZOMBIE};

use super::snapshot::{Holder, Leased, Snapshot, StakeView};

/// Pins under a lease, which may be orphaned. Where the monitor holds the file on behalf of a
/// rule, the lease is kept for the sake of the pins.
pub const fn is_candidate(view: &StakeView) -> bool {
    is_candidate_stake(&view.stake)
}

/// The same of the stake alone.
pub const fn is_candidate_stake(stake: &Stake) -> bool {
    let word = stake.word;
    stake::pins(word) > 0 && stake::leases(word) > 0 && word & ZOMBIE == 0 && !stake.is_held()
}

/// Who holds leased files of which inode: what a walk has found, to be asked in one step however
/// much that is.
pub struct Held(HashMap<u64, HashSet<u32>>);

impl Held {
    pub fn new(leased: &Leased, holders: &[Holder]) -> Self {
        let mut held: HashMap<u64, HashSet<u32>> = HashMap::new();
        for holder in holders {
            if let Some(inode) = leased.get(&holder.lease) {
                held.entry(*inode).or_default().insert(holder.tgid);
            }
        }
        Self(held)
    }

    fn of(&self, view: &StakeView) -> Option<&HashSet<u32>> {
        self.0.get(&view.inode.address()?)
    }

    /// Whether the owner of this stake holds a leased file of its inode.
    pub fn covers(&self, view: &StakeView) -> bool {
        let holders = self.of(view);
        holders.is_some_and(|holders| holders.contains(&view.key.tgid))
    }

    /// Whether these pins are orphaned, by a walk over everything.
    pub fn orphans(&self, view: &StakeView) -> bool {
        is_candidate(view) && !self.covers(view) && self.of(view).is_some()
    }
}

/// The stakes whose pins are orphaned.
pub fn among(snapshot: &Snapshot) -> BTreeSet<StakeKey> {
    let held = Held::new(&snapshot.leased(), &snapshot.holders);
    let stakes = snapshot.stakes.iter();
    let orphaned = stakes.filter(|view| held.orphans(view));
    orphaned.map(|view| view.key).collect()
}
