//! Reads the maps into the views of a [`Snapshot`](super::snapshot::Snapshot).

use std::{borrow::Borrow, hash::Hash, os::fd::AsFd as _};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap as _, MapData, MapError},
};
use lease_trace_common::{
    control,
    count::{Count, PerCpu},
    lease::{Lease, LeaseKey},
    stake::{Inode, Path, Stake, StakeKey, Task, pins},
    totals::Totals,
};

use super::{
    error::Error,
    idle,
    inodes::Inodes,
    snapshot::{InodeView, LeaseView, Leased, StakeView},
};
use crate::kernel::{batch, undisturbed::Undisturbed};

/// The counters, indexed by [`Count`].
pub type Counts = [u64; Count::LEN];

/// The maps that hold all state, owned or borrowed.
pub struct Maps<T> {
    pub leases: HashMap<T, LeaseKey, Lease>,
    pub stakes: HashMap<T, StakeKey, Stake>,
    pub inodes: Inodes,
    pub paths: HashMap<T, u64, Path>,
    pub breakers: HashMap<T, u64, Task>,
    pub counts: Array<T, PerCpu>,
    pub totals: Array<T, Totals>,
    /// See [`control`].
    pub control: Array<T, u64>,
    /// Whether hash maps are read key by key, see [`Maps::entries`].
    pub key_by_key: bool,
}

impl<T: Borrow<MapData>> Maps<T> {
    /// `idle` reads what is known of the files of idle leases.
    pub fn leases(&self, idle: impl FnOnce() -> idle::Files) -> Result<Vec<LeaseView>, Error> {
        let leases = self.entries("LEASES", &self.leases)?;
        // Read afterwards, so that only a lease that is counted meanwhile, or ends, is not among them.
        let files = if leases.iter().any(|(_, lease)| lease.is_idle()) {
            idle()
        } else {
            idle::Files::none()
        };
        let views = leases.into_iter();
        Ok(views
            .filter_map(|(key, lease)| self.lease_view(key, lease, &files))
            .collect())
    }

    fn lease_view(&self, key: LeaseKey, lease: Lease, files: &idle::Files) -> Option<LeaseView> {
        let found = if let Some((slot, id)) = lease.record() {
            Some((lease, id, self.inode(slot, id)))
        } else if let Some((id, inode)) = files.of(key) {
            Some((lease, id, inode))
        } else {
            let undisturbed = Undisturbed::claim();
            let now = self.leases.get(&key, 0).ok()?;
            drop(undisturbed);
            let counted = now.record();
            counted.map(|(slot, id)| (now, id, self.inode(slot, id)))
        };
        let (lease, inode_id, inode) = found.unwrap_or((lease, key.inode, InodeView::UNKNOWN));
        Some(LeaseView {
            key,
            inode_id,
            lease,
            inode,
        })
    }

    /// Who wanted leases broken last, by the address of the inode that has the file's pages.
    pub fn breakers(&self) -> Result<std::collections::HashMap<u64, Task>, Error> {
        let breakers = self.entries("BREAKERS", &self.breakers)?;
        Ok(breakers.into_iter().collect())
    }

    /// One stake; nothing if there is none.
    pub fn stake(&self, key: StakeKey) -> Result<Option<StakeView>, Error> {
        let undisturbed = Undisturbed::claim();
        let stake = self.stakes.get(&key, 0);
        drop(undisturbed);
        match stake {
            Ok(stake) => Ok(Some(self.view(key, &stake))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(Error::maps("cannot read the map", "STAKES", error)),
        }
    }

    pub fn stakes(&self) -> Result<Vec<StakeView>, Error> {
        self.stakes_with(|_, _| true)
    }

    /// Those that are meant; what is not is not looked at any further.
    pub fn stakes_with(
        &self,
        is_meant: impl Fn(&StakeKey, &Stake) -> bool,
    ) -> Result<Vec<StakeView>, Error> {
        let stakes = self.entries("STAKES", &self.stakes)?;
        Ok(stakes
            .into_iter()
            .filter(|(key, stake)| is_meant(key, stake))
            .map(|(key, stake)| self.view(key, &stake))
            .collect())
    }

    /// All entries of a map that goes on changing.
    ///
    /// By whole buckets where that keeps no hook from running; key by key with kprobes, which are
    /// missed on this CPU for as long as the kernel looks for a bucket that has anything.
    pub fn entries<K, V>(
        &self,
        name: &'static str,
        map: &HashMap<T, K, V>,
    ) -> Result<Vec<(K, V)>, Error>
    where
        K: Pod + Eq + Hash,
        V: Pod,
    {
        if self.key_by_key
            && let Some(found) = by_key(map)
        {
            return Ok(found);
        }
        batch::entries(map.map().fd().as_fd())
            .map_err(|error| Error::maps("cannot walk the map", name, error))
    }

    /// The leases in force, and which inode each is on.
    pub fn leased(&self) -> Result<Leased, Error> {
        let leases = self.entries("LEASES", &self.leases)?;
        let leases = leases.into_iter();
        Ok(leases
            .map(|(key, lease)| (lease.address, key.inode))
            .collect())
    }

    fn view(&self, key: StakeKey, stake: &Stake) -> StakeView {
        let inode = self.inode(stake.slot, key.inode);
        let stake = settled(&key, stake, inode.inode.as_ref());
        StakeView { key, stake, inode }
    }

    /// The stakes alone, with the pins that there are.
    pub fn settled_stakes(&self) -> Result<Vec<(StakeKey, Stake)>, Error> {
        let stakes = self.entries("STAKES", &self.stakes)?.into_iter();
        Ok(stakes
            .map(|(key, stake)| {
                let inode = if pins(stake.word) > 0 {
                    self.record(stake.slot, key.inode)
                } else {
                    None
                };
                (key, settled(&key, &stake, inode.as_ref()))
            })
            .collect())
    }

    fn record(&self, slot: u64, id: u64) -> Option<Inode> {
        let slot = u32::try_from(slot).ok()?;
        let there = self.inodes.get(slot).ok().flatten()?;
        Some(there.inode).filter(|inode| inode.id == id)
    }

    pub fn inode(&self, slot: u64, id: u64) -> InodeView {
        let _undisturbed = Undisturbed::claim();
        InodeView {
            inode: self.record(slot, id),
            path: self.paths.get(&id, 0).ok().map(Box::new),
            breaker: None,
        }
    }

    /// How many inodes have records, and pins.
    pub fn totals(&self) -> Result<Totals, Error> {
        let _undisturbed = Undisturbed::claim();
        let totals = self.totals.get(&0, 0);
        totals.map_err(|error| Error::maps("cannot read the map", Totals::MAP, error))
    }

    pub fn counts(&self) -> Result<Counts, Error> {
        let _undisturbed = Undisturbed::claim();
        let mut counts = counts(&self.counts)?;
        let hooks = self.control.get(&control::LOST_HOOKS, 0);
        counts[Count::LostHooks as usize] =
            hooks.map_err(|error| Error::maps("cannot read the map", "CONTROL", error))?;
        Ok(counts)
    }
}

/// A stake without the pins that its owner has dropped and that it still counts. The inode was read
/// after it: so they are there, or there are more.
fn settled(key: &StakeKey, stake: &Stake, inode: Option<&Inode>) -> Stake {
    let batch = inode.map_or(0, |inode| inode.batch);
    Stake {
        word: lease_trace_common::batch::net(stake.word, key.tgid, batch),
        ..*stake
    }
}

impl Maps<MapData> {
    /// Sets the counter that no program adds to.
    pub fn set_lost_hooks(&mut self, hooks: u64) -> Result<(), Error> {
        let _undisturbed = Undisturbed::claim();
        self.control
            .set(control::LOST_HOOKS, hooks, 0)
            .map_err(|error| Error::maps("cannot write the map", "CONTROL", error))
    }
}

/// What the programs count.
pub fn counts<T: Borrow<MapData>>(map: &Array<T, PerCpu>) -> Result<Counts, Error> {
    map.get(&0, 0)
        .map(|counts| counts.sums())
        .map_err(|error| Error::maps("cannot read the map", PerCpu::MAP, error))
}

/// Reads one key after the other; nothing if that does not come to an end, because a key that is
/// gone when the next is asked for begins it anew.
fn by_key<T, K, V>(map: &HashMap<T, K, V>) -> Option<Vec<(K, V)>>
where
    T: Borrow<MapData>,
    K: Pod + Eq + Hash,
    V: Pod,
{
    /// A walk begins anew where the element that it stood at was deleted; with so many it would go round for as long
    /// as elements come and go.
    const MOST_READ_AGAIN: usize = 1 << 12;
    let mut found = std::collections::HashMap::new();
    let mut again = 0;
    let mut keys = map.keys();
    loop {
        let _undisturbed = Undisturbed::claim();
        let Some(key) = keys.next() else {
            break;
        };
        let key = key.ok()?;
        if let Ok(value) = map.get(&key, 0)
            && found.insert(key, value).is_some()
        {
            again += 1;
            if again > MOST_READ_AGAIN {
                return None;
            }
        }
    }
    Some(found.into_iter().collect())
}
