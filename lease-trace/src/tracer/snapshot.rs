//! What the maps and the iterators say at one moment, as plain data.

use lease_trace_common::{
    count::Count,
    lease::Lease,
    stake::{Inode, Path, Stake, StakeKey},
};

/// One lease in force.
pub struct LeaseView {
    /// Address of the `file_lease`: the identity of the lease.
    pub id: u64,
    pub lease: Lease,
    pub inode: InodeView,
}

/// One process's stake in one inode.
pub struct StakeView {
    pub key: StakeKey,
    pub stake: Stake,
    pub inode: InodeView,
}

/// What is known of the inode itself.
pub struct InodeView {
    pub inode: Option<Inode>,
    pub path: Option<Box<Path>>,
}

/// One reference that keeps a lease alive: a descriptor or a mapping of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Address of the `file_lease`.
    pub lease: u64,
    pub tgid: u32,
    pub comm: String,
    /// `None`: a mapping.
    pub fd: Option<u32>,
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

/// Whose maps were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Those of the monitor with this pid.
    Monitor(u32),
    /// Those of the enforcement in place, without a monitor.
    Enforcement,
}
