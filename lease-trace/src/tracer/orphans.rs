//! Orphaned pins, judged by the rules in force: a walk has found them, and the programs judge them while somebody
//! reads.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, MapData};
use lease_trace_common::stake::StakeKey;

use super::{bpffs, object::Object, of_directory, pinned, walk};
use crate::kernel::{bpf, iter, undisturbed::Undisturbed};

const MAP: &str = "ORPHANS";
const FILE: bpffs::File = ("orphans", "judge_orphans", MAP);

/// Makes the file; why there is none if that cannot be.
pub fn make(object: &Object, directory: &pinned::Directory) -> Option<String> {
    let made = bpffs::pin(object, FILE, directory.path());
    made.err()
        .map(|reason| format!("no rule is applied to orphaned pins: {reason}"))
}

/// What has them judged.
pub struct Judge {
    stakes: HashMap<MapData, StakeKey, u64>,
    link: OwnedFd,
}

impl Judge {
    /// Nothing where no rules were in force when this was set up.
    pub fn open() -> Option<Self> {
        Some(Self {
            stakes: HashMap::try_from(of_directory(MAP).ok()?).ok()?,
            link: bpf::open(&pinned::directory().join(FILE.0)).ok()?,
        })
    }

    /// Has these stakes judged, if their words still have these generations. What it comes to is notified.
    ///
    /// # Errors
    /// If there is no room for so many, or the file cannot be read.
    pub fn judge(&mut self, stakes: &[(StakeKey, u64)]) -> io::Result<()> {
        let _undisturbed = Undisturbed::claim();
        let mut judged = Ok(());
        for (key, generation) in stakes {
            let added = self.stakes.insert(key, generation, 0);
            judged = judged.and(added.map_err(io::Error::other));
        }
        let walk: io::Result<File> = iter::begin(self.link.as_fd()).map(File::from);
        let judged = judged.and(walk.and_then(walk::read_all).map(drop));
        for (key, _) in stakes {
            // One that found no room is not there.
            _ = self.stakes.remove(key);
        }
        judged
    }
}
