//! Leases that cover a process which did not set them, as `COVERS` keeps them.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    count::Count,
    cover::{self, Covers, Inserted},
    idle::Of,
    lease::Id,
    share::Table,
    word::Change,
};

use crate::{
    bpf::atomic::InPlace,
    state::{
        inodes::{EEXIST, InodeRef},
        leases::LeaseRef,
        losses::lost,
        maps::{COVERS, CoverKey, Covered, walk_covers},
        shares::Share as _,
        stakes::{COVER_TRIES, StakeRef},
    },
    track::counts,
};

/// A stake, and a lease in force that covers it.
#[derive(Clone, Copy)]
pub struct Cover {
    pub stake: StakeRef,
    pub lease: Id,
}

impl Cover {
    #[inline(always)]
    const fn key(self) -> CoverKey {
        CoverKey::new(self.lease.address, self.stake.key.tgid)
    }
}

impl Covers for Cover {
    type Word = InPlace<COVER_TRIES>;

    #[inline(always)]
    fn word(self) -> Of<Self::Word> {
        self.stake.of_covers()
    }

    #[inline(always)]
    fn is_there(self) -> bool {
        COVERS.get_ptr(self.key()).is_some()
    }

    /// In this user's share.
    #[inline(always)]
    fn insert(self) -> Inserted {
        let user = self.stake.user();
        if !Table::Covers.take(user) {
            lost(Count::LostShares, 1, self.lease.address);
            return Inserted::NoRoom;
        }
        let covered = Covered {
            inode: self.stake.key.inode,
            setter: u64::from(self.lease.setter),
        };
        // Before it is there: whoever takes it out takes it off.
        self.stake.inherit();
        let Err(error) = COVERS.insert(self.key(), &covered, BPF_NOEXIST.into()) else {
            cover_has_heir(
                self.lease.address,
                self.lease.inode,
                u64::from(self.lease.setter),
            );
            return Inserted::Done;
        };
        self.stake.disinherit();
        Table::Covers.give_back(user);
        if error == EEXIST {
            return Inserted::Already;
        }
        lost(Count::LostCovers, 1, self.lease.address);
        Inserted::NoRoom
    }

    #[inline(always)]
    fn remove(self) -> bool {
        remove(self.lease.address, self.stake)
    }

    #[inline(always)]
    fn is_in_force(self) -> bool {
        is_in_force(self.lease)
    }

    #[inline(always)]
    fn uncovered(self, change: Change, is_told: bool) {
        counts::cover(change);
        if change.is(Change::UNCOVERED) && !is_told {
            lost(Count::LostCovers, 1, self.lease.address);
        }
    }
}

/// Whether it is entered, and has not ended.
#[inline(always)]
pub fn is_in_force(lease: Id) -> bool {
    cover_is_in_force(lease.address, lease.inode, u64::from(lease.setter)) != 0
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cover_is_in_force(address: u64, inode: u64, setter: u64) -> i64 {
    let id = Id::new(address, inode, setter);
    i64::from(LeaseRef::find(id).is_some_and(|entry| entry.is_in_force(address)))
}

/// A global function, too.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cover_has_heir(address: u64, inode: u64, setter: u64) -> i64 {
    let id = Id::new(address, inode, setter);
    if let Some(entry) = LeaseRef::find(id) {
        entry.add_heir();
    }
    0
}

/// Whether the lease at this address covered this stake; not any more.
#[inline(always)]
pub fn remove(lease: u64, stake: StakeRef) -> bool {
    let removed = COVERS.remove(CoverKey::new(lease, stake.key.tgid)).is_ok();
    if removed {
        Table::Covers.give_back(stake.user());
        stake.disinherit();
    }
    removed
}

/// The last pin of a stake went: what others have set covers nothing any more.
#[inline(always)]
pub fn forget(inode: InodeRef, stake: StakeRef) {
    if stake.get().inherited > 0 {
        cover_forget(u64::from(stake.key.tgid), inode.number());
    }
}

/// A function of its own, so that it shares no stack with what drops the pins.
#[unsafe(no_mangle)]
extern "C" fn cover_forget(tgid: u64, number: u64) -> i64 {
    let mut forget = Forget {
        number,
        tgid: tgid as u32,
    };
    walk_covers(forget_one, &mut forget);
    0
}

struct Forget {
    number: u64,
    tgid: u32,
}

unsafe extern "C" fn forget_one(
    _map: *mut c_void,
    key: *mut CoverKey,
    covered: *mut Covered,
    forget: *mut Forget,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `cover_forget` gave it.
    let (lease, tgid, covered, forget) = unsafe { ((*key).lease, (*key).tgid, *covered, &*forget) };
    let (_, inode_id) = InodeRef::parts_of(forget.number);
    if tgid == forget.tgid
        && covered.inode == inode_id
        && let Some(inode) = InodeRef::find_number(forget.number)
        && let Some(stake) = StakeRef::find(tgid, inode_id)
    {
        let lease = Id::new(lease, inode.get().address, covered.setter);
        cover::forget(Cover { stake, lease });
    }
    0
}
