//! Leases that cover a process which did not set them.

use std::collections::{BTreeMap, BTreeSet};

use lease_trace_common::idle::ENDED;

use super::{Look, Rule, Subject, Violation, check};

impl Look {
    /// Each cover is of a lease in force, and each stake counts its covers: those without a stake are counted by none.
    pub(super) fn covers_are_right(&self, found: &mut BTreeSet<Violation>) {
        let in_force: BTreeSet<u64> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.counted != ENDED)
            .map(|(_, lease)| lease.address)
            .collect();
        // By process and inode: what the stake counts, the covers that there are, and those of leases that are not
        // in force.
        let mut stakes: BTreeMap<(u32, u64), (u64, u64, u64)> = self
            .stakes
            .iter()
            .map(|(key, stake)| ((key.tgid, key.inode), (stake.inherited, 0, 0)))
            .collect();
        for (key, covered) in &self.covers {
            let (_, covers, ended) = stakes.entry((key.tgid, covered.inode)).or_default();
            *covers += 1;
            *ended += u64::from(!in_force.contains(&key.lease));
        }
        for ((tgid, inode_id), (inherited, covers, ended)) in stakes {
            let subject = || Subject::Process { tgid, inode_id };
            check(found, Rule::Covers, subject, inherited, covers);
            check(found, Rule::Covering, subject, ended, 0);
        }
    }
}
