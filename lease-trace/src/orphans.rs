//! Orphaned pins: a process has dropped its own last reference to the leased file, and another one
//! keeps the lease alive. No hook sees this, since a descriptor that is closed may be the last of a
//! process and not of the file; a walk over the process's descriptors and mappings does.
//!
//! A stake is told once two walks in a row have found no reference: a file that is just being
//! closed is in no table any more while its lease has not ended yet.

use std::collections::{BTreeSet, HashMap};

use lease_trace_common::{
    event::EventKind,
    stake::{self, Stake, StakeKey},
};

use crate::tracer::{
    orphaned::{Held, is_candidate, is_candidate_stake},
    snapshot::{Everybody, Holder, Leased, Notification, StakeView},
};

/// Where not everybody is found who keeps a lease, all are looked through again after so many walks at the latest.
const SELDOM: u32 = 16;

/// What a monitor knows of orphaned pins.
#[derive(Default)]
pub struct Orphans {
    /// Stakes without a reference of their owner's, and how many walks in a row found none.
    missing: HashMap<StakeKey, u32>,
    /// Those that were told.
    told: HashMap<StakeKey, Told>,
}

/// As it was told, and whether it is certain: then rules apply to it, once.
struct Told {
    notification: Notification,
    is_certain: bool,
}

/// What a walk has come to.
#[derive(Default)]
pub struct Changes {
    pub told: Vec<Change>,
    /// Those that have become certain, with their words: each file whose lease covers them is held by
    /// nobody but those whom a walk finds, and none of these is the owner.
    pub certain: Vec<(StakeKey, u64)>,
}

/// A change to be told.
pub struct Change {
    pub notification: Notification,
    /// Who keeps the lease alive.
    pub holders: Vec<Holder>,
    /// How it ended; `None`: it begins.
    pub end: Option<&'static str>,
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
    /// everything, which is done for the few that may be orphaned only, and, with rules, for those that are not
    /// certain to be.
    pub fn update<E>(
        &mut self,
        stakes: &[StakeView],
        leased: &Leased,
        holders: &[Holder],
        now_ns: u64,
        has_rules: bool,
        all: impl FnOnce() -> Result<Everybody, E>,
    ) -> Result<Changes, E> {
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
        let mut changes = Changes {
            told: self.ended(stakes, &missing, now_ns),
            certain: Vec::new(),
        };
        // Where nobody else is found (a descriptor in a message, a ring's registered file), or not everybody, it is
        // looked for again ever more rarely.
        let doubtful: Vec<&StakeView> = stakes
            .iter()
            .filter(|view| {
                let walks = self.missing.get(&view.key).copied().unwrap_or(0);
                let told = self.told.get(&view.key);
                let is_known = told.is_some_and(|told| told.is_certain || !has_rules);
                walks > 1 && (walks.is_power_of_two() || walks % SELDOM == 0) && !is_known
            })
            .collect();
        if doubtful.is_empty() {
            return Ok(changes);
        }
        let all = all()?;
        let held = Held::new(leased, &all.holders);
        for view in doubtful {
            if !held.orphans(view) {
                continue;
            }
            if !self.told.contains_key(&view.key)
                && let Some(notification) = view.notification(EventKind::OrphanedPin, now_ns)
            {
                let told = Told {
                    notification: notification.clone(),
                    is_certain: false,
                };
                self.told.insert(view.key, told);
                changes.told.push(Change {
                    notification,
                    holders: keepers(view, leased, &all.holders),
                    end: None,
                });
            }
            changes
                .certain
                .extend(self.becomes_certain(view, leased, &all));
        }
        Ok(changes)
    }

    /// Whether this is certain, for what was told before: then rules apply to it.
    fn becomes_certain(
        &mut self,
        view: &StakeView,
        leased: &Leased,
        all: &Everybody,
    ) -> Option<(StakeKey, u64)> {
        let address = view.inode.address();
        let mut of_inode = leased.iter().filter(|(_, of)| Some(**of) == address);
        // A lease of his own that came since, or that found no room in the books, covers them all the same.
        let is_covered = all.holders.iter().any(|holder| {
            holder.tgid == view.key.tgid && holder.lease != 0 && holder.inode == view.key.inode
        });
        // Only who had a lease of his own has let go of it.
        let had_one = stake::leases(view.stake.word) > view.stake.inherited;
        let is_certain =
            had_one && !is_covered && of_inode.all(|(lease, _)| all.in_full.contains(lease));
        let told = self.told.get_mut(&view.key)?;
        told.is_certain |= is_certain;
        is_certain.then_some((view.key, view.stake.word))
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
            let mut notification = told.notification.clone();
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
    let Some(address) = view.inode.address() else {
        return Vec::new();
    };
    let of_inode = |holder: &&Holder| leased.get(&holder.lease) == Some(&address);
    holders.iter().filter(of_inode).cloned().collect()
}

#[cfg(test)]
mod orphans_tests;
