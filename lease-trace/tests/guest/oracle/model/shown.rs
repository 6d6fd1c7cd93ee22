//! What the product and the kernel have to show for the state that there is.

use super::{Id, Model, Pending, Stake};
use crate::oracle::told::Row;

impl Model {
    /// What the report of stakes has to show, by pid and inode number.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .stakes
            .iter()
            .map(|(&(pid, inode), stake)| {
                let own = || self.leases_on(inode).filter(|lease| lease.setter == pid);
                let breaking = own().any(|lease| lease.pending != Pending::Nothing);
                let held = self.leases_held(pid, inode);
                Row {
                    pid,
                    ino: self.inodes[&inode].ino,
                    state: self.state(pid, inode, stake).to_owned(),
                    pins: stake.pins,
                    breaking,
                    leases: own().count()..=stake.leases.union(&held).count(),
                }
            })
            .collect();
        rows.sort_by_key(|row| (row.pid, row.ino));
        rows
    }

    /// What /proc/locks has to show: inode number, setter, access.
    pub fn locks(&self) -> Vec<(i64, i64, String)> {
        let opens = self.opens.values();
        let mut locks: Vec<_> = opens
            .filter_map(|open| {
                let lease = open.lease?;
                let access = lease.access().to_owned();
                Some((self.inodes[&open.inode].ino, lease.setter, access))
            })
            .collect();
        locks.sort_unstable();
        locks
    }

    /// How many pin references there are.
    pub fn pins(&self) -> i64 {
        self.stakes.values().map(|stake| stake.pins).sum()
    }

    fn state(&self, pid: i64, inode: Id, stake: &Stake) -> &'static str {
        let holds = |pid| !self.leases_held(pid, inode).is_empty();
        let mut others = self.alive().filter(|process| process.pid != pid);
        match stake {
            Stake { pins: 0, .. } => "leased",
            Stake { zombie: true, .. } => "zombie",
            _ if holds(pid) => "covered",
            Stake { leases, .. } if leases.is_empty() => "bare-pin",
            _ if others.any(|process| holds(process.pid)) => "orphaned-pin",
            _ => "covered",
        }
    }
}
