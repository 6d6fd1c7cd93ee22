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
/// Judged by one read: the map has room for more.
const AT_ONCE: usize = 16;
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

    /// Has these stakes judged, if their words have these generations and leases still. What it comes to is notified.
    ///
    /// # Errors
    /// If the map cannot be written, or the file not be read.
    pub fn judge(&mut self, stakes: &[(StakeKey, u64)]) -> io::Result<()> {
        stakes
            .chunks(AT_ONCE)
            .try_for_each(|some| self.judge_some(some))
    }

    fn judge_some(&mut self, stakes: &[(StakeKey, u64)]) -> io::Result<()> {
        for (key, word) in stakes {
            let _undisturbed = Undisturbed::claim();
            self.stakes.insert(key, word, 0).map_err(io::Error::other)?;
        }
        let walk: File = iter::begin(self.link.as_fd())?.into();
        let judged = walk::read_all(walk).map(drop);
        for (key, _) in stakes {
            let _undisturbed = Undisturbed::claim();
            _ = self.stakes.remove(key);
        }
        judged
    }
}
