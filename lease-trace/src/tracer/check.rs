//! Whether the books are right: the rules of `lease_trace_common::books`, held against what the maps of a running
//! monitor or of the enforcement in place say; and the pins of each file, held against its page cache.

mod books;
mod covers;
mod page_cache;
mod shares;
mod threads;

use std::collections::{BTreeMap, BTreeSet};

use lease_trace_common::{
    batch,
    books::generation,
    cover::{CoverKey, Covered},
    lease::{Lease, LeaseKey},
    stake::{Detached, Inode, Stake, StakeKey},
    tagged::{self, owners},
    totals::Totals,
    word,
};
use serde::Serialize;

pub use books::Books;

/// A rule that the books are to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// An inode counts the pins of its stakes and those that nobody owns.
    Pins,
    /// No more is owed than is counted.
    Owed,
    /// An inode knows how many owners of pins it has, and the only one by name.
    Owners,
    /// An inode counts the leases in force on it, but for idle ones.
    Leases,
    /// A lease is idle only as long as its setter has no stake in the inode.
    Idle,
    /// A batch is of the only owner, and of no more pins than there are.
    Batch,
    /// A stake is in an inode that there is.
    Stake,
    /// Nobody is in the middle of telling of a change.
    Told,
    /// Pins of folios that left the page cache are pins of their inode.
    Folios,
    /// How many inodes are tracked, and have pins.
    Totals,
    /// What is kept of a call under way is of a thread that there is.
    Calls,
    /// So is a note of what is to be judged.
    Notes,
    /// So is the stack of a call.
    Stacks,
    /// A user's share of a table is what he has in it.
    Shares,
    /// A stake counts the leases of others that cover it.
    Covers,
    /// Leases that cover others are in force.
    Covering,
    /// An inode has no fewer pins in its page cache, and on folios that left it, than it counts.
    PageCache,
}

/// What is not as it should be: which rule, where, what is there and what should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    pub rule: Rule,
    pub subject: Subject,
    pub found: u64,
    pub expected: u64,
}

/// What a [`Violation`] is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Inode {
        dev: u32,
        ino: u64,
    },
    Process {
        tgid: u32,
        inode_id: u64,
    },
    Thread {
        tid: u32,
    },
    /// By the counter that they have ([`lease_trace_common::share::user`]): up to 4,095 it is the uid.
    User {
        counter: u32,
    },
    Everything,
}

/// All that the maps say at one time.
#[derive(Default)]
pub struct Look {
    /// Live records, by id.
    pub inodes: BTreeMap<u64, Inode>,
    pub stakes: Vec<(StakeKey, Stake)>,
    pub leases: Vec<(LeaseKey, Lease)>,
    pub detached: Vec<(u64, Detached)>,
    pub totals: Totals,
    /// Threads of which something is kept, by what it is.
    pub threads: Vec<(Rule, u32)>,
    /// Users with a share of something: by table and user, how many entries.
    pub shares: BTreeMap<(usize, u64), u64>,
    /// Of leases that others have set.
    pub covers: Vec<(CoverKey, Covered)>,
    /// Pins in the page caches of inodes, by id, as far as these could be seen, and were not changed meanwhile;
    /// no more than are counted.
    pub cached: BTreeMap<u64, u64>,
}

/// What each process has in one inode.
#[derive(Default)]
struct Sums {
    pins: u64,
    owners: u64,
    only: u32,
    leases: u64,
    detached: u64,
}

impl Look {
    /// What does not keep the rules; `is_there` says whether there is a thread of this number.
    pub fn violations(&self, is_there: impl Fn(u32) -> bool) -> BTreeSet<Violation> {
        let mut found = BTreeSet::new();
        let mut sums: BTreeMap<u64, Sums> = BTreeMap::new();
        for (key, stake) in &self.stakes {
            let of = sums.entry(key.inode).or_default();
            of.pins += word::pins(stake.word);
            if word::pins(stake.word) > 0 {
                of.owners += 1;
                of.only = key.tgid;
            }
            let subject = || Subject::Process {
                tgid: key.tgid,
                inode_id: key.inode,
            };
            if !self.inodes.contains_key(&key.inode) {
                found.insert(violation(Rule::Stake, subject(), 1, 0));
            }
            check(&mut found, Rule::Told, subject, word::guards(stake.word), 0);
        }
        // Of each stake: the inode's address, its owner, and the inode's id.
        let staked: BTreeMap<(u64, u32), u64> = self
            .stakes
            .iter()
            .filter_map(|(key, _)| {
                let inode = self.inodes.get(&key.inode)?;
                Some(((inode.address, key.tgid), key.inode))
            })
            .collect();
        for (key, lease) in &self.leases {
            if let Some((_, id)) = lease.record() {
                sums.entry(id).or_default().leases += 1;
            } else if let Some(inode_id) = staked.get(&(key.inode, lease.setter.tgid))
                && !lease.is_kernels()
            {
                let subject = Subject::Process {
                    tgid: lease.setter.tgid,
                    inode_id: *inode_id,
                };
                found.insert(violation(Rule::Idle, subject, 1, 0));
            }
        }
        for (folio, detached) in &self.detached {
            let pins = tagged::value(
                detached.pins,
                lease_trace_common::stake::detached_tag(*folio),
            );
            sums.entry(detached.inode_id).or_default().detached += pins.unwrap_or(0);
        }
        for (id, inode) in &self.inodes {
            inode_keeps(inode, sums.get(id).unwrap_or(&Sums::default()), &mut found);
        }
        let with_pins = self
            .inodes
            .values()
            .filter(|inode| word::pins(inode.word) > 0);
        let all = || Subject::Everything;
        check(
            &mut found,
            Rule::Totals,
            all,
            *self.totals.pinned,
            with_pins.count() as u64,
        );
        check(
            &mut found,
            Rule::Totals,
            all,
            *self.totals.tracked,
            self.inodes.len() as u64,
        );
        self.shares_are_right(&mut found);
        self.covers_are_right(&mut found);
        self.threads_are_there(is_there, &mut found);
        self.page_caches_have_all(&mut found);
        found
    }
}

fn inode_keeps(inode: &Inode, sums: &Sums, found: &mut BTreeSet<Violation>) {
    let of = |count| tagged::value(count, generation(inode.id)).unwrap_or(0);
    let subject = || Subject::Inode {
        dev: inode.dev,
        ino: inode.ino,
    };
    let pins = word::pins(inode.word);
    check(
        found,
        Rule::Pins,
        subject,
        pins,
        sums.pins + of(inode.unowned),
    );
    check(
        found,
        Rule::Owed,
        subject,
        of(inode.owed),
        of(inode.owed).min(pins),
    );
    check(
        found,
        Rule::Owners,
        subject,
        owners::number(of(inode.owners)),
        sums.owners,
    );
    if sums.owners == 1 {
        let only = owners::sole(of(inode.owners)).unwrap_or(0);
        check(found, Rule::Owners, subject, only.into(), sums.only.into());
    }
    check(
        found,
        Rule::Leases,
        subject,
        word::leases(inode.word),
        sums.leases,
    );
    check(
        found,
        Rule::Folios,
        subject,
        sums.detached,
        sums.detached.min(pins),
    );
    if inode.batch != 0 {
        let dropped = batch::dropped(inode.batch);
        check(found, Rule::Batch, subject, dropped, dropped.min(pins));
    }
}

fn check(
    found: &mut BTreeSet<Violation>,
    rule: Rule,
    subject: impl Fn() -> Subject,
    there: u64,
    expected: u64,
) {
    if there != expected {
        found.insert(violation(rule, subject(), there, expected));
    }
}

const fn violation(rule: Rule, subject: Subject, found: u64, expected: u64) -> Violation {
    Violation {
        rule,
        subject,
        found,
        expected,
    }
}

#[cfg(test)]
mod check_tests;
