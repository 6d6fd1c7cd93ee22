//! Orphaned pins: a process has dropped its own last reference to the leased file, and another one
//! keeps the lease alive. No hook sees this, since a descriptor that is closed may be the last of a
//! process and not of the file; a walk over the process's descriptors and mappings does.
//!
//! A stake is told once two walks in a row have found no reference: a file that is just being
//! closed is in no table any more while its lease has not ended yet.

use std::collections::{BTreeSet, HashMap, HashSet};

use lease_trace_common::{
    event::EventKind,
    stake::{self, Stake, StakeKey, ZOMBIE},
};

use crate::tracer::snapshot::{Holder, Leased, Notification, Snapshot, StakeView};

/// What a monitor knows of orphaned pins.
#[derive(Default)]
pub struct Orphans {
    /// Stakes without a reference of their owner's, and how many walks in a row found none.
    missing: HashMap<StakeKey, u32>,
    /// Those that were told, as they were told.
    told: HashMap<StakeKey, Notification>,
}

/// A change to be told.
pub struct Change {
    pub notification: Notification,
    /// Who keeps the lease alive.
    pub holders: Vec<Holder>,
    /// How it ended; `None`: it begins.
    pub end: Option<&'static str>,
}

/// Pins under a lease, which may be orphaned. Where the monitor holds the file in the name of a
/// rule, the lease is kept for the sake of the pins.
pub const fn is_candidate(view: &StakeView) -> bool {
    is_candidate_stake(&view.stake)
}

const fn is_candidate_stake(stake: &Stake) -> bool {
    let word = stake.word;
    stake::pins(word) > 0 && stake::leases(word) > 0 && word & ZOMBIE == 0 && stake.held == 0
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

    /// Whether the owner of this stake holds a leased file of its inode.
    pub fn covers(&self, view: &StakeView) -> bool {
        let holders = self.0.get(&view.key.inode);
        holders.is_some_and(|holders| holders.contains(&view.key.tgid))
    }

    /// Whether these pins are orphaned, by a walk over everything.
    pub fn orphans(&self, view: &StakeView) -> bool {
        is_candidate(view) && !self.covers(view) && self.0.contains_key(&view.key.inode)
    }
}

/// The stakes whose pins are orphaned.
pub fn among(snapshot: &Snapshot) -> BTreeSet<StakeKey> {
    let held = Held::new(&snapshot.leased(), &snapshot.holders);
    let stakes = snapshot.stakes.iter();
    let orphaned = stakes.filter(|view| held.orphans(view));
    orphaned.map(|view| view.key).collect()
}

impl Orphans {
    /// Nothing was told that has not ended.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The lease has ended: a zombie, which is told as such, takes the orphan's place.
    pub fn became_zombie(&mut self, key: StakeKey) {
        self.told.remove(&key);
    }

    /// Whether this stake matters to what is told: it may be orphaned, or was told to be.
    pub fn concerns(&self, key: &StakeKey, stake: &Stake) -> bool {
        is_candidate_stake(stake) || self.told.contains_key(key)
    }

    /// What has changed: `holders` are the references of the candidates' owners; `all` walks over
    /// everything, which is done for the few that may be orphaned only.
    pub fn update<E>(
        &mut self,
        stakes: &[StakeView],
        leased: &Leased,
        holders: &[Holder],
        now_ns: u64,
        all: impl FnOnce() -> Result<Vec<Holder>, E>,
    ) -> Result<Vec<Change>, E> {
        let held = Held::new(leased, holders);
        let missing: BTreeSet<StakeKey> = stakes
            .iter()
            .filter(|view| is_candidate(view) && !held.covers(view))
            .map(|view| view.key)
            .collect();
        self.missing.retain(|key, _| missing.contains(key));
        for key in &missing {
            *self.missing.entry(*key).or_default() += 1;
        }
        let mut changes = self.ended(stakes, &missing, now_ns);
        // Where nobody else is found (a descriptor in a message, a ring's registered file), it is
        // looked for again ever more rarely.
        let doubtful: Vec<&StakeView> = stakes
            .iter()
            .filter(|view| {
                let walks = self.missing.get(&view.key).copied().unwrap_or(0);
                walks > 1 && walks.is_power_of_two() && !self.told.contains_key(&view.key)
            })
            .collect();
        if doubtful.is_empty() {
            return Ok(changes);
        }
        let all = all()?;
        let held = Held::new(leased, &all);
        for view in doubtful {
            if !held.orphans(view) {
                continue;
            }
            if let Some(notification) = view.notification(EventKind::OrphanedPin, now_ns) {
                self.told.insert(view.key, notification.clone());
                changes.push(Change {
                    notification,
                    holders: keepers(view, leased, &all),
                    end: None,
                });
            }
        }
        Ok(changes)
    }

    /// Those that were told and are not orphaned any more.
    fn ended(
        &mut self,
        stakes: &[StakeView],
        missing: &BTreeSet<StakeKey>,
        now_ns: u64,
    ) -> Vec<Change> {
        let by_key: HashMap<StakeKey, &StakeView> =
            stakes.iter().map(|view| (view.key, view)).collect();
        let mut changes = Vec::new();
        self.told.retain(|key, told| {
            if missing.contains(key) {
                return true;
            }
            let word = by_key.get(key).map_or(0, |view| view.stake.word);
            let end = if stake::pins(word) == 0 {
                "pins-gone"
            } else {
                "covered"
            };
            let mut notification = told.clone();
            let event = &mut notification.event;
            event.kind = EventKind::OrphanEnd as u32;
            event.since_ns = event.time_ns;
            event.time_ns = now_ns;
            changes.push(Change {
                notification,
                holders: Vec::new(),
                end: Some(end),
            });
            false
        });
        changes
    }
}

/// Who keeps the leases of this inode alive.
fn keepers(view: &StakeView, leased: &Leased, holders: &[Holder]) -> Vec<Holder> {
    let of_inode = |holder: &&Holder| leased.get(&holder.lease) == Some(&view.key.inode);
    holders.iter().filter(of_inode).cloned().collect()
}

#[cfg(test)]
mod tests;
