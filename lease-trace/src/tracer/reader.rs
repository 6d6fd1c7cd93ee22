//! What `report` reads: the maps of the running monitor or of the enforcement in place; else what a
//! walk finds now. Loads nothing where somebody has. Leaves nothing behind.

use std::{collections::BTreeSet, thread, time::Duration};

use lease_trace_common::stake::StakeKey;

use super::{
    Options,
    error::Error,
    maps::Maps,
    object::{self, Adopt},
    of_monitor, owned, pinned, read,
    snapshot::{Snapshot, Source},
    walk::Walker,
};
use crate::orphans;
use aya::maps::MapData;

/// How long the end of a lease may take behind the end of its last reference.
const CLOSING: Duration = Duration::from_millis(50);

/// Reads time and again. Maps stay open for as long as they are those of the same monitor.
#[derive(Default)]
pub struct Reader {
    open: Option<Open>,
}

/// Maps that are somebody's, and what was learnt of them.
struct Open {
    source: Source,
    /// Of which folder they are; another one is made for other maps.
    folder: Option<u64>,
    maps: Maps<MapData>,
    walker: Walker,
    /// Orphaned pins of which a second look has shown that they are.
    orphaned: BTreeSet<StakeKey>,
}

impl Reader {
    /// All there is now.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let Some(source) = pinned::source()? else {
            self.open = None;
            let mut object = object::load(Options::default(), Adopt::Yes)?;
            let holders = Walker::load(&mut object.ebpf, &object.btf)?.all()?;
            return read(&owned(&mut object.ebpf)?, holders, None);
        };
        let folder = pinned::inode();
        match &mut self.open {
            Some(open) if open.source == source && open.folder == folder => open,
            open => open.insert(Open::of(source, folder)?),
        }
        .snapshot()
    }
}

impl Open {
    fn of(source: Source, folder: Option<u64>) -> Result<Self, Error> {
        Ok(Self {
            source,
            folder,
            maps: of_monitor()?,
            walker: pinned::walker()?,
            orphaned: BTreeSet::new(),
        })
    }

    fn read(&self) -> Result<Snapshot, Error> {
        read(&self.maps, self.walker.all()?, Some(self.source))
    }

    /// A file that is just being closed is in no table any more while its lease has not ended yet:
    /// pins that seem to be orphaned for the first time are looked at twice.
    fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let mut snapshot = self.read()?;
        let mut orphaned = orphans::among(&snapshot);
        if !orphaned.is_subset(&self.orphaned) {
            thread::sleep(CLOSING);
            snapshot = self.read()?;
            orphaned = orphans::among(&snapshot);
        }
        self.orphaned = orphaned;
        Ok(snapshot)
    }
}
