//! Reads the maps into the views of a [`Snapshot`](super::snapshot::Snapshot).

use std::{borrow::Borrow, collections::HashSet, hash::Hash};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use lease_trace_common::{
    count::Count,
    lease::Lease,
    stake::{Inode, Path, Stake, StakeKey},
};

use super::{
    error::Error,
    snapshot::{InodeView, LeaseView, StakeView},
};

/// The maps that hold all state, owned or borrowed.
pub struct Maps<T> {
    pub leases: HashMap<T, u64, Lease>,
    pub stakes: HashMap<T, StakeKey, Stake>,
    pub inodes: Array<T, Inode>,
    pub paths: HashMap<T, u64, Path>,
    pub counts: PerCpuArray<T, u64>,
}

impl<T: Borrow<MapData>> Maps<T> {
    pub fn leases(&self) -> Result<Vec<LeaseView>, Error> {
        let leases = entries("LEASES", &self.leases)?;
        Ok(leases
            .into_iter()
            .map(|(id, lease)| LeaseView {
                id,
                inode: self.inode(lease.slot, lease.inode_id),
                lease,
            })
            .collect())
    }

    pub fn stakes(&self) -> Result<Vec<StakeView>, Error> {
        let stakes = entries("STAKES", &self.stakes)?;
        Ok(stakes
            .into_iter()
            .map(|(key, stake)| StakeView {
                key,
                inode: self.inode(stake.slot, key.inode),
                stake,
            })
            .collect())
    }

    fn inode(&self, slot: u64, id: u64) -> InodeView {
        let inode = u32::try_from(slot)
            .ok()
            .and_then(|slot| self.inodes.get(&slot, 0).ok())
            .filter(|inode| inode.id == id);
        InodeView {
            inode,
            path: self.paths.get(&id, 0).ok().map(Box::new),
        }
    }

    /// Sums over all CPUs.
    pub fn counts(&self) -> Result<[u64; Count::LEN], Error> {
        let mut sums = [0; Count::LEN];
        for count in Count::ALL {
            sums[count as usize] = sum(&self.counts, count)?;
        }
        Ok(sums)
    }
}

/// A counter, summed over all CPUs.
pub fn sum<T: Borrow<MapData>>(counts: &PerCpuArray<T, u64>, count: Count) -> Result<u64, Error> {
    let values = counts
        .get(&(count as u32), 0)
        .map_err(|error| Error::maps("cannot read the map", "COUNTS", error))?;
    Ok(values.iter().sum())
}

/// Steps of one walk: four times what the largest map holds.
pub const MAX_STEPS: usize = 4 << 16;

/// All entries of a map that goes on changing. An entry deleted between being named and being
/// read is left out. A deletion can throw the walk back to the start: keys met again are skipped,
/// and the number of steps is bounded.
pub fn entries<T, K, V>(name: &'static str, map: &HashMap<T, K, V>) -> Result<Vec<(K, V)>, Error>
where
    T: Borrow<MapData>,
    K: Pod + Eq + Hash,
    V: Pod,
{
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for key in map.keys().take(MAX_STEPS) {
        let key = key.map_err(|error| Error::maps("cannot walk the map", name, error))?;
        if seen.insert(key)
            && let Ok(value) = map.get(&key, 0)
        {
            found.push((key, value));
        }
    }
    Ok(found)
}
