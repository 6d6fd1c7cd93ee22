//! What `report` reads: the maps of the running monitor or of the enforcement in place; else what a
//! walk finds now. Loads nothing where somebody has. Leaves nothing behind.

use std::{collections::BTreeSet, thread, time::Duration};

use lease_trace_common::stake::StakeKey;

use super::{
    Options,
    error::Error,
    idle,
    maps::Maps,
    object::{self, Purpose},
    of_monitor, orphaned, owned,
    pinned::{self, ControlMap},
    read,
    snapshot::{Snapshot, Source},
    walk::Walker,
};
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
    /// Of which directory they are; another one is made for other maps.
    directory: u64,
    control: ControlMap,
    maps: Maps<MapData>,
    walker: Walker,
    /// Orphaned pins of which a second look has shown that they are.
    orphaned: BTreeSet<StakeKey>,
}

impl Reader {
    /// All there is now.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let directory = pinned::inode();
        let open = self
            .open
            .take()
            .filter(|open| Some(open.directory) == directory);
        let open = match (open, directory) {
            (None, Some(directory)) => Open::of(directory)?,
            (open, _) => open,
        };
        let source = open
            .as_ref()
            .map_or(Ok(None), |open| open.control.source())?;
        let (Some(mut open), Some(source)) = (open, source) else {
            return walked();
        };
        let snapshot = open.snapshot(source);
        self.open = Some(open);
        snapshot
    }
}

/// Where there are no maps of anybody's.
fn walked() -> Result<Snapshot, Error> {
    let purpose = Purpose {
        adopts: true,
        ..Purpose::default()
    };
    let mut object = object::load(Options::default(), purpose)?;
    let idle = idle::Source::of(&object);
    let holders = Walker::load(&object)?.all()?;
    read(&owned(&mut object.maps)?, || idle.files(), holders, None)
}

impl Open {
    /// Nothing if the directory is a dead monitor's.
    fn of(directory: u64) -> Result<Option<Self>, Error> {
        let Some(control) = ControlMap::open() else {
            return Ok(None);
        };
        if control.source()?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            directory,
            control,
            maps: of_monitor()?,
            walker: pinned::walker()?,
            orphaned: BTreeSet::new(),
        }))
    }

    fn read(&self, source: Source) -> Result<Snapshot, Error> {
        read(
            &self.maps,
            idle::Files::now,
            self.walker.all()?,
            Some(source),
        )
    }

    /// A file that is just being closed is in no table any more while its lease has not ended yet:
    /// pins that seem to be orphaned for the first time are looked at twice.
    fn snapshot(&mut self, source: Source) -> Result<Snapshot, Error> {
        let mut snapshot = self.read(source)?;
        let mut found = orphaned::among(&snapshot);
        if !found.is_subset(&self.orphaned) {
            thread::sleep(CLOSING);
            snapshot = self.read(source)?;
            found = orphaned::among(&snapshot);
        }
        self.orphaned = found;
        Ok(snapshot)
    }
}
