//! Which leases somebody wants broken.
//!
//! The walk over descriptors and mappings has the flags of each lease that it comes by. One that only
//! a ring's registered file or a message on its way keeps alive is in neither; of those the kernel's
//! list, /proc/locks, tells it.

use std::collections::{HashMap, HashSet};

use lease_trace_common::lease::LeaseInfo;

use crate::{
    enrich::locks::LockLine,
    tracer::snapshot::{LeaseView, Snapshot},
};

/// The leases that somebody wants broken, by identity.
pub struct Breaking(HashSet<u64>);

/// Whether the walk came by fewer leases than there are.
pub fn needs_list(snapshot: &Snapshot) -> bool {
    let found: HashSet<u64> = snapshot.holders.iter().map(|holder| holder.lease).collect();
    let mut leases = snapshot.leases.iter();
    leases.any(|view| !found.contains(&view.id()))
}

impl Breaking {
    pub fn of(snapshot: &Snapshot, listed: &[LockLine]) -> Self {
        let mut found: HashMap<u64, bool> = HashMap::new();
        for holder in &snapshot.holders {
            let flags = LeaseInfo {
                flags: holder.flags,
                ..LeaseInfo::default()
            };
            *found.entry(holder.lease).or_default() |= flags.is_breaking();
        }
        let leases = snapshot.leases.iter();
        let breaking = leases.filter(|view| {
            let seen = found.get(&view.id()).copied();
            seen.unwrap_or_else(|| listed.iter().any(|line| line.breaking && is_of(line, view)))
        });
        Self(breaking.map(LeaseView::id).collect())
    }

    pub fn contains(&self, lease: u64) -> bool {
        self.0.contains(&lease)
    }
}

fn is_of(line: &LockLine, view: &LeaseView) -> bool {
    let inode = view.inode.inode;
    line.pid == view.lease.setter.tgid
        && inode.is_some_and(|inode| (inode.dev, inode.ino) == (line.dev.0, line.ino))
}
