//! Whether the books are in themselves right: the rules of `lease_trace_common::books`, held against what
//! the maps of a running monitor or of the enforcement in place say.

use std::collections::{BTreeMap, BTreeSet};

use std::os::fd::AsFd as _;

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData};
use lease_trace_common::{
    batch, books,
    call::Call,
    lease::{Lease, LeaseKey},
    share::{self, Shares, Table},
    stake::{Detached, Inode, Stake, StakeKey},
    tagged::{self, owners},
    totals::Totals,
    word,
};
use serde::Serialize;

use super::{error::Error, of_folder, of_monitor, pinned::ControlMap};
use crate::kernel::batch as entries;

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
    /// A user's share of a table is what he has in it.
    Shares,
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
    /// By the counter that they have ([`share::user`]): up to 4,095 it is the uid.
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
    /// Threads of which a call is kept, as `bpf_get_current_pid_tgid` names them.
    pub calls: Vec<u64>,
    /// Users with a share of something: by table (leases, inodes, stakes) and user, how many entries.
    pub shares: BTreeMap<(usize, u64), u64>,
}

/// The maps that are looked at.
pub struct Books {
    inodes: Array<MapData, Inode>,
    detached: HashMap<MapData, u64, Detached>,
    calls: HashMap<MapData, u64, Call>,
    totals: Array<MapData, Totals>,
    shares: Array<MapData, Shares>,
    rest: super::Maps<MapData>,
}

impl Books {
    /// Those of the monitor that runs, or of the enforcement in place; `None` if there are none.
    pub fn open() -> Result<Option<Self>, Error> {
        let is_read = match ControlMap::open() {
            Some(control) => control.source()?.is_some(),
            None => false,
        };
        if !is_read {
            return Ok(None);
        }
        Ok(Some(Self {
            inodes: opened("INODES", Array::try_from)?,
            detached: opened("DETACHED", HashMap::try_from)?,
            calls: opened("CALLS", HashMap::try_from)?,
            totals: opened(Totals::MAP, Array::try_from)?,
            shares: opened(Shares::MAP, Array::try_from)?,
            rest: of_monitor()?,
        }))
    }

    /// Reads all. While something changes, its parts are of different moments.
    pub fn look(&self) -> Result<Look, Error> {
        let cannot_read =
            |name: &'static str| move |error| Error::maps("cannot read the map", name, error);
        let slots = entries::entries::<u32, Inode>(self.inodes.map().fd().as_fd());
        let slots = slots.map_err(cannot_read("INODES"))?.into_iter();
        let inodes = slots
            .map(|(_, inode)| (inode.id, inode))
            .filter(|(id, inode)| word::is_of(inode.word, books::generation(*id)))
            .collect();
        Ok(Look {
            inodes,
            stakes: self.rest.entries("STAKES", &self.rest.stakes)?,
            leases: self.rest.entries("LEASES", &self.rest.leases)?,
            detached: entries::entries(self.detached.map().fd().as_fd())
                .map_err(cannot_read("DETACHED"))?,
            totals: self
                .totals
                .get(&0, 0)
                .map_err(|error| Error::maps("cannot read the map", Totals::MAP, error))?,
            calls: entries::entries::<u64, Call>(self.calls.map().fd().as_fd())
                .map_err(cannot_read("CALLS"))?
                .into_iter()
                .map(|(thread, _)| thread)
                .collect(),
            shares: in_shares(
                &self
                    .shares
                    .get(&0, 0)
                    .map_err(|error| Error::maps("cannot read the map", Shares::MAP, error))?,
            ),
        })
    }
}

fn in_shares(shares: &Shares) -> BTreeMap<(usize, u64), u64> {
    // Of covers, the last, there is no list.
    let tables = shares.0.iter().enumerate().take(Table::Covers as usize);
    tables
        .flat_map(|(table, users)| {
            (0..)
                .zip(users)
                .map(move |(user, had)| ((table, user), *had))
        })
        .filter(|(_, had)| *had != 0)
        .collect()
}

fn opened<T>(
    name: &'static str,
    make: impl FnOnce(Map) -> Result<T, aya::maps::MapError>,
) -> Result<T, Error> {
    make(of_folder(name)?).map_err(|error| Error::maps("cannot open the map", name, error))
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
        for thread in &self.calls {
            let tid = *thread as u32;
            if !is_there(tid) {
                found.insert(violation(Rule::Calls, Subject::Thread { tid }, 1, 0));
            }
        }
        found
    }

    fn shares_are_right(&self, found: &mut BTreeSet<Violation>) {
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
        let mut had: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for (table, user) in leases.chain(inodes).chain(stakes) {
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

fn inode_keeps(inode: &Inode, sums: &Sums, found: &mut BTreeSet<Violation>) {
    let generation = books::generation(inode.id);
    let of = |count| tagged::value(count, generation).unwrap_or(0);
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
mod tests;
