//! What the maps and the iterators say at one moment, as plain data.

use std::collections::{HashMap, HashSet};

use lease_trace_common::{
    count::Count,
    event::{Event, EventKind},
    lease::{Lease, LeaseKey},
    stake::{Inode, Path, Stake, StakeKey, Task, pins},
};

/// One lease in force.
pub struct LeaseView {
    pub key: LeaseKey,
    /// That of the stakes in the inode, see [`StakeKey::inode`]; its address where it has no record.
    pub inode_id: u64,
    pub lease: Lease,
    pub inode: InodeView,
}

impl LeaseView {
    /// Address of the `file_lease`: the identity of the lease.
    pub const fn id(&self) -> u64 {
        self.lease.address
    }
}

/// The address of the inode that each lease is on, by the identity of the lease.
pub type Leased = HashMap<u64, u64>;

/// One process's stake in one inode.
pub struct StakeView {
    pub key: StakeKey,
    pub stake: Stake,
    pub inode: InodeView,
}

/// A notification and its path.
#[derive(Clone)]
pub struct Notification {
    pub event: Event,
    pub path: Vec<u8>,
}

impl StakeView {
    /// This stake as a notification would have put it; `None` if its inode is not known, for then
    /// nobody can tell which file it is.
    pub fn notification(&self, kind: EventKind, now_ns: u64) -> Option<Notification> {
        let inode = self.inode.inode?;
        let path = self.inode.path.as_deref();
        let Stake {
            word,
            owner,
            started_ns,
            lease,
            context,
            stack,
            ..
        } = self.stake;
        let event = Event {
            time_ns: now_ns,
            kind: kind as u32,
            path_len: path.map_or(0, |path| path.len),
            path_flags: path.map_or(0, |path| path.flags),
            dev: inode.dev,
            ino: inode.ino,
            inode_id: self.key.inode,
            owner,
            releaser: Task::default(),
            breaker: Task::default(),
            context,
            lease,
            pins: pins(word),
            since_ns: 0,
            pinned_ns: 0,
            started_ns,
            thread: 0,
            action: 0,
            outcome: 0,
            enforced: 0,
            doubtful: inode.is_doubtful().into(),
            zero: 0,
            grace_ms: 0,
            rule: [0; lease_trace_common::policy::NAME_LEN],
            stack,
        };
        Some(Notification {
            event,
            path: path.map_or_else(Vec::new, |path| path.as_bytes().to_vec()),
        })
    }
}

/// What is known of the inode itself.
#[derive(Clone)]
pub struct InodeView {
    pub inode: Option<Inode>,
    pub path: Option<Box<Path>>,
    /// Who wanted a lease on the file broken last, where that was asked.
    pub breaker: Option<Task>,
}

impl InodeView {
    pub const UNKNOWN: Self = Self {
        inode: None,
        path: None,
        breaker: None,
    };

    /// Where the inode is in memory, if it is.
    pub fn address(&self) -> Option<u64> {
        let address = self.inode?.address;
        (address != 0).then_some(address)
    }

    /// See [`Inode::is_doubtful`].
    pub fn is_doubtful(&self) -> bool {
        self.inode.is_some_and(|inode| inode.is_doubtful())
    }
}

/// One reference to a leased file, or to another of a tracked inode: a descriptor or a mapping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Address of the `file_lease` that it keeps alive, 0 if there is none.
    pub lease: u64,
    /// Inode id, 0 if the inode is not tracked.
    pub inode: u64,
    /// `flc_flags` of the lease.
    pub flags: u32,
    pub tgid: u32,
    pub comm: String,
    /// `None`: a mapping.
    pub fd: Option<u32>,
}

/// Who refers to leased files, and to others of tracked inodes.
pub struct Everybody {
    pub holders: Vec<Holder>,
    /// Leases, by address, of which each reference to their file is a descriptor or a mapping of these holders. Others
    /// are kept by a ring's registered file, say, or a message under way, too.
    pub in_full: HashSet<u64>,
}

/// One reference that a process has to a leased file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub place: Place,
    /// Address of the open file description: its identity as long as it is there.
    pub file: u64,
    /// Inode id, 0 if the inode is not tracked.
    pub inode: u64,
    /// References to the open file description, everybody's together.
    pub references: u64,
    /// The process whose pins would be left uncovered if the lease went now, or 0.
    pub uncovers: u32,
}

/// Where a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Descriptor(u32),
    /// From the first address to the one behind the last.
    Mapping(u64, u64),
}

/// Everything at one moment.
pub struct Snapshot {
    pub leases: Vec<LeaseView>,
    pub stakes: Vec<StakeView>,
    pub holders: Vec<Holder>,
    /// Sums over all CPUs, indexed by [`Count`].
    pub counts: [u64; Count::LEN],
    /// Whose maps were read; `None`: there are none, and pins are unknown.
    pub source: Option<Source>,
}

impl Snapshot {
    /// Says of each file who wanted a lease on it broken last.
    pub fn name_breakers(&mut self, breakers: &HashMap<u64, Task>) {
        let leases = self.leases.iter_mut().map(|view| &mut view.inode);
        let stakes = self.stakes.iter_mut().map(|view| &mut view.inode);
        for inode in leases.chain(stakes) {
            inode.breaker = inode.address().and_then(|at| breakers.get(&at).copied());
        }
    }

    pub fn leased(&self) -> Leased {
        let leases = self.leases.iter();
        leases.map(|view| (view.id(), view.key.inode)).collect()
    }
}

/// Whose maps were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Those of the monitor with this pid.
    Monitor(u32),
    /// Those of the enforcement in place, without a monitor.
    Enforcement,
}
