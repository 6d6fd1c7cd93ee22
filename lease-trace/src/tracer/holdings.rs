//! Leases and stakes alone, without a look at their inodes and paths, and how full the maps are:
//! what can be read often, however many there are.

use std::{borrow::Borrow, iter};

use aya::maps::{IterableMap, MapData};
use lease_trace_common::{lease::Lease, stake::Stake};

use super::{error::Error, idle, maps::Maps};
use crate::kernel::undisturbed::Undisturbed;

/// What all processes have in all files at one moment.
#[derive(Default)]
pub struct Holdings {
    pub leases: Vec<Lease>,
    pub stakes: Vec<Stake>,
    pub fill: Vec<Fill>,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    pub entries: u64,
    pub max_entries: u64,
}

impl<T: Borrow<MapData>> Maps<T> {
    fn max_paths(&self) -> Result<usize, Error> {
        let info = self.paths.map().info();
        info.map(|info| info.max_entries() as usize)
            .map_err(|error| Error::maps("cannot read the size of the map", "PATHS", error))
    }

    pub fn holdings(&self) -> Result<Holdings, Error> {
        let leases = self.entries("LEASES", &self.leases)?;
        let mut stakes = self.settled_stakes()?;
        let tracked = *self.totals()?.tracked;
        // A deletion can throw this walk back to the start: no more steps than the map holds.
        let mut keys = self.paths.keys().take(self.max_paths()?);
        let next = || {
            let _undisturbed = Undisturbed::claim();
            keys.next()
        };
        let paths = iter::from_fn(next).count();
        let fill = [
            ("LEASES", leases.len(), self.leases.map()),
            ("STAKES", stakes.len(), self.stakes.map()),
            ("PATHS", paths, self.paths.map()),
        ];
        let fill = fill.map(|(map, entries, data)| {
            let info = data.info();
            info.map(|info| Fill {
                map,
                entries: entries as u64,
                max_entries: u64::from(info.max_entries()),
            })
            .map_err(|error| Error::maps("cannot read the size of the map", map, error))
        });
        let mut fill = fill.into_iter().collect::<Result<Vec<_>, _>>()?;
        // As many as there may be leases, and stakes (`--capacity`).
        let max_entries = fill[0].max_entries;
        fill.push(Fill {
            map: "INODES",
            entries: tracked,
            max_entries,
        });
        stakes.extend(idle::stakes(
            leases.iter().map(|(key, lease)| (key.inode, lease)),
        ));
        Ok(Holdings {
            leases: leases.into_iter().map(|(_, lease)| lease).collect(),
            stakes: stakes.into_iter().map(|(_, stake)| stake).collect(),
            fill,
        })
    }
}
