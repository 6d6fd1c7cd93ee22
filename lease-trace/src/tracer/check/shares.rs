//! A user's share of a table is what he has in it.

use std::collections::{BTreeMap, BTreeSet};

use lease_trace_common::share::{self, Table};

use super::{Look, Rule, Subject, Violation, check};

impl Look {
    pub(super) fn shares_are_right(&self, found: &mut BTreeSet<Violation>) {
        let leases = self
            .leases
            .iter()
            .map(|(_, lease)| (Table::Leases as usize, lease.user.into()));
        let inodes = self
            .inodes
            .values()
            .map(|inode| (Table::Inodes as usize, inode.user));
        let stakes = self
            .stakes
            .iter()
            .map(|(_, stake)| (Table::Stakes as usize, stake.user));
        // A cover is in the share of the stake that it covers.
        let users: BTreeMap<_, _> = self
            .stakes
            .iter()
            .map(|(key, stake)| ((key.tgid, key.inode), stake.user))
            .collect();
        let covers = self.covers.iter().filter_map(|(key, covered)| {
            let user = users.get(&(key.tgid, covered.inode))?;
            Some((Table::Covers as usize, *user))
        });
        let mut had: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for (table, user) in leases.chain(inodes).chain(stakes).chain(covers) {
            if user == u64::from(share::NOBODY) {
                continue;
            }
            *had.entry((table, user)).or_default() += 1;
            if share::is_high(user as u32) {
                *had.entry((table, share::HIGH_ONES.into())).or_default() += 1;
            }
        }
        let all: BTreeSet<_> = self.shares.keys().chain(had.keys()).collect();
        for entry in all {
            let of = |counts: &BTreeMap<_, u64>| counts.get(entry).copied().unwrap_or(0);
            let subject = || Subject::User {
                counter: entry.1 as u32,
            };
            check(found, Rule::Shares, subject, of(&self.shares), of(&had));
        }
    }
}
