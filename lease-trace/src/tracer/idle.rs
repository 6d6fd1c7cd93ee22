//! Idle leases: no stake counts them, and no record has their file. What the file is, the kernel side looks up
//! while somebody reads the file `idle` in bpffs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
};

use lease_trace_common::{
    lease::{IdleLease, Lease, LeaseKey},
    stake::{self, Inode, Path as FilePath, Stake, StakeKey},
};

use super::{
    bpffs, iterator,
    object::Object,
    pinned,
    snapshot::{InodeView, LeaseView, StakeView},
    walk,
};
use crate::kernel::iter;

/// The file, its program, and the map that it goes over.
pub const FILE: bpffs::File = ("idle", "write_idle", "LEASES");

/// The program of an object that is nobody else's, and goes over its map.
pub struct Source(io::Result<OwnedFd>);

impl Source {
    pub fn of(object: &Object) -> Self {
        let (_, program, map) = FILE;
        let link = || {
            let program = iterator::load(&object.raw, &object.types, program, "bpf_map_elem");
            let program = program.map_err(|error| io::Error::other(error.to_string()))?;
            let map = object.maps.descriptor(map).map_err(io::Error::other)?;
            iter::over_map(program.as_fd(), map.as_fd())
        };
        Self(link())
    }

    /// Those of now; none where the program cannot be had.
    pub fn files(self) -> Files {
        Files::read(|| walk::read_all(iter::begin(self.0?.as_fd())?.into()))
    }
}

/// What is known of the files of idle leases.
pub struct Files(HashMap<LeaseKey, (IdleLease, Vec<u8>)>);

impl Files {
    /// Those of now; none where they cannot be had, so that they are unknown.
    pub fn now() -> Self {
        Self::read(|| walk::read_all(fs::File::open(pinned::directory().join(FILE.0))?))
    }

    fn read(all: impl FnOnce() -> io::Result<Vec<u8>>) -> Self {
        match all() {
            Ok(bytes) => Self(parse(&bytes)),
            Err(error) => {
                log::debug!("cannot read the files of leases without pins: {error}");
                Self::none()
            }
        }
    }

    pub fn none() -> Self {
        Self(HashMap::new())
    }

    /// The id of the inode of the lease with this key, and what is known of it.
    pub fn of(&self, key: LeaseKey) -> Option<(u64, InodeView)> {
        let (file, path) = self.0.get(&key)?;
        let inode = Inode {
            id: file.inode_id,
            address: key.inode,
            ino: file.ino,
            dev: file.dev,
            ..Inode::default()
        };
        let view = InodeView {
            inode: Some(inode),
            path: (!path.is_empty()).then(|| Box::new(FilePath::new(path, file.path_flags))),
            breaker: None,
        };
        Some((file.inode_id, view))
    }
}

fn parse(mut bytes: &[u8]) -> HashMap<LeaseKey, (IdleLease, Vec<u8>)> {
    let mut found = HashMap::new();
    while let Some((record, rest)) = bytes.split_at_checked(size_of::<IdleLease>()) {
        let Some(file) = walk::records::<IdleLease>(record).next() else {
            break;
        };
        let Some((room, rest)) = rest.split_at_checked(file.path_room as usize) else {
            break;
        };
        let path = &room[room.len().saturating_sub(file.path_len as usize)..];
        found.insert(file.key, (file, path.to_vec()));
        bytes = rest;
    }
    found
}

/// The stakes that processes with idle leases have, as if their leases were counted: leases and no pin. Each lease
/// comes with the id of its inode.
pub fn stakes<'a>(leases: impl Iterator<Item = (u64, &'a Lease)>) -> Vec<(StakeKey, Stake)> {
    let mut found: BTreeMap<StakeKey, Stake> = BTreeMap::new();
    for (inode, lease) in leases.filter(|(_, lease)| lease.is_idle() && !lease.is_kernels()) {
        let key = StakeKey::new(lease.setter.tgid, inode);
        let there = found.entry(key).or_insert_with(|| Stake {
            key,
            owner: lease.setter,
            ..Stake::default()
        });
        there.word += stake::LEASE;
        if there.lease.set_ns <= lease.info.set_ns {
            there.lease = lease.info;
            there.file = lease.file;
        }
    }
    found.into_iter().collect()
}

/// The same with what is known of their files. One that was counted between a look at the leases and one at the stakes
/// is in `counted`.
pub fn stake_views(leases: &[LeaseView], counted: &[StakeView]) -> Vec<StakeView> {
    let there: HashSet<(u32, Option<u64>)> = counted
        .iter()
        .map(|view| (view.key.tgid, view.inode.address()))
        .collect();
    let idle = leases.iter().filter(|view| view.lease.is_idle());
    let inodes: HashMap<u64, &InodeView> = idle.map(|view| (view.inode_id, &view.inode)).collect();
    let uncounted = leases
        .iter()
        .filter(|view| !there.contains(&(view.lease.setter.tgid, Some(view.key.inode))));
    let stakes = stakes(uncounted.map(|view| (view.inode_id, &view.lease)));
    let views = stakes.into_iter().filter_map(|(key, stake)| {
        let inode = (*inodes.get(&key.inode)?).clone();
        Some(StakeView { key, stake, inode })
    });
    views.collect()
}

#[cfg(test)]
mod tests {
    use lease_trace_common::{
        idle::IDLE,
        lease::LeaseInfo,
        stake::{State, state},
    };

    use super::*;
    use crate::fixtures;

    fn lease(tgid: u32, set_ns: u64, counted: u64) -> Lease {
        Lease {
            counted,
            info: LeaseInfo {
                set_ns,
                ..LeaseInfo::default()
            },
            setter: fixtures::task(tgid, "client"),
            ..fixtures::blank()
        }
    }

    #[test]
    fn idle_leases_are_stakes_without_pins() {
        let leases = [
            (7, lease(1, 20, IDLE | 1)),
            (7, lease(1, 10, IDLE | 2)),
            (7, lease(2, 10, 77)),
            (8, lease(2, 10, IDLE | 3)),
        ];
        let stakes = stakes(leases.iter().map(|(inode, lease)| (*inode, lease)));
        let found: Vec<_> = stakes
            .iter()
            .map(|(key, stake)| (*key, stake::leases(stake.word), stake.lease.set_ns))
            .collect();
        assert_eq!(
            found,
            [(StakeKey::new(1, 7), 2, 20), (StakeKey::new(2, 8), 1, 10)]
        );
        assert_eq!(state(stakes[0].1.word), State::Leased);
    }

    #[test]
    fn a_cut_off_record_ends_it() {
        let file = IdleLease {
            key: LeaseKey::first(64, 1),
            ino: 12,
            path_room: 4,
            path_len: 2,
            ..fixtures::blank()
        };
        // SAFETY: an `IdleLease` is made of integers without padding, so all its bytes may be read.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const file).cast::<u8>(), size_of::<IdleLease>())
        };
        let files = Files(parse(&[bytes, b"\0\0/f", bytes, b"/"].concat()));
        assert_eq!(files.0.len(), 1);
        let (id, view) = files.of(file.key).expect("it is there");
        assert_eq!(id, 0);
        assert_eq!(
            view.inode.map(|inode| (inode.ino, inode.address)),
            Some((12, 64))
        );
        assert_eq!(
            view.path.as_deref().map(FilePath::as_bytes),
            Some(&b"/f"[..])
        );
        assert!(files.of(LeaseKey::first(65, 1)).is_none());
    }
}
