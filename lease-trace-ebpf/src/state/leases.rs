//! The entries of leases: found, made and ended.

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    count::Count,
    idle::{self, ENDED, IDLE},
    lease::{Id, Lease, LeaseKey},
    share::Table,
    word::Word as _,
};

use crate::{
    bpf::atomic::At,
    state::{
        inodes::{EEXIST, InodeRef},
        maps::{LAST_LEASE, LEASES, further_leases, word_of},
        shares::Share as _,
    },
};

/// What [`Lease::counted`] of a new entry says.
#[inline(always)]
pub fn next_idle() -> u64 {
    // SAFETY: a global of this object.
    IDLE | unsafe { word_of(&raw mut LAST_LEASE) }.add(1)
}

/// What a processor has stored before is seen by the others before it reads anything after this.
#[inline(always)]
fn fence() {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut LAST_LEASE) }.add(0);
}

/// A lease's entry. The memory may become another lease's, see [`Self::is`].
#[derive(Clone, Copy)]
pub struct LeaseRef {
    pub key: LeaseKey,
    record: *mut Lease,
}

/// What became of a new entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    Already,
    New(LeaseKey),
    /// What is lost by that.
    NoRoom(Count),
}

impl LeaseRef {
    /// The entry of this lease.
    #[inline(always)]
    pub fn find(id: Id) -> Option<Self> {
        let mut key = LeaseKey::first(id.inode, id.setter);
        if let Some(record) = LEASES.get_ptr_mut(&key) {
            let found = Self { key, record };
            if found.is(id.address) {
                return Some(found);
            }
        }
        // In its place, since many of those who ask have little stack.
        // SAFETY: a reference is valid to write.
        unsafe { core::ptr::write_volatile(&raw mut key.by, id.address) };
        let found = Self {
            key,
            record: LEASES.get_ptr_mut(&key)?,
        };
        found.is(id.address).then_some(found)
    }

    /// Whether it still is the entry of the lease at this address, and that is in force.
    #[inline(always)]
    pub fn is_in_force(self, address: u64) -> bool {
        !self.has_ended() && self.is(address)
    }

    #[inline(always)]
    pub fn at(key: LeaseKey) -> Option<Self> {
        let record = LEASES.get_ptr_mut(key)?;
        Some(Self { key, record })
    }

    #[inline(always)]
    pub fn get(&self) -> &Lease {
        // SAFETY: `record` is a map value; what is read races with nothing but updates of its words.
        unsafe { &*self.record }
    }

    #[inline(always)]
    pub fn get_ptr(self) -> *mut Lease {
        self.record
    }

    /// Whether it is that of the lease at this address.
    #[inline(always)]
    fn is(self, address: u64) -> bool {
        // SAFETY: part of a map value, read as a whole word.
        unsafe { core::ptr::read_volatile(&raw const (*self.record).address) == address }
    }

    /// Makes the entry of a lease.
    #[inline(always)]
    pub fn make(id: Id, lease: &Lease) -> Entered {
        let further = LeaseKey::further(id);
        // One that was not the first may have become the only one.
        if further_leases().load() != 0
            && Self::at(further).is_some_and(|found| found.is_in_force(id.address))
        {
            return Entered::Already;
        }
        // Mostly there is none yet, so it is not looked for first.
        let first = LeaseKey::first(id.inode, id.setter);
        let user = lease.user;
        if !Table::Leases.take(user) {
            let is_there = Self::at(first).is_some_and(|found| found.is_in_force(id.address));
            return if is_there {
                Entered::Already
            } else {
                Entered::NoRoom(Count::LostShares)
            };
        }
        let refused = match LEASES.insert(first, lease, BPF_NOEXIST.into()) {
            Ok(()) => {
                fence();
                return Entered::New(first);
            }
            Err(EEXIST) => Self::make_further(id, lease, first),
            Err(_) => Entered::NoRoom(Count::LostLeases),
        };
        if !matches!(refused, Entered::New(_)) {
            Table::Leases.give_back(user);
        }
        refused
    }

    /// The same where its setter has an entry in the inode.
    #[inline(always)]
    fn make_further(id: Id, lease: &Lease, first: LeaseKey) -> Entered {
        if Self::at(first).is_some_and(|found| found.is_in_force(id.address)) {
            return Entered::Already;
        }
        let further = LeaseKey::further(id);
        further_leases().add(1);
        let refused = match LEASES.insert(further, lease, BPF_NOEXIST.into()) {
            Ok(()) => {
                fence();
                return Entered::New(further);
            }
            Err(EEXIST) => Entered::Already,
            Err(_) => Entered::NoRoom(Count::LostLeases),
        };
        further_leases().add(ONE_FEWER);
        refused
    }

    /// The word that says who counts it.
    #[inline(always)]
    pub fn counted(self) -> At {
        // SAFETY: part of a map value.
        unsafe { At::new(&raw mut (*self.record).counted) }
    }

    /// See [`idle::idle`].
    #[inline(always)]
    pub fn idle(self) -> Option<u64> {
        let idle = idle::idle(self.counted())?;
        // The element was this entry's then, if it is now: else the word will not be found again.
        let there = Self::at(self.key)?;
        core::ptr::eq(there.record, self.record).then_some(idle)
    }

    /// See [`idle::end`]; `address` is the lease's.
    #[inline(always)]
    pub fn end(self, address: u64) -> Option<u64> {
        match lease_mark_ended(self.record, self.key.inode, self.key.by, address) {
            0 => None,
            counted => Some(counted as u64),
        }
    }

    #[inline(always)]
    fn has_ended(self) -> bool {
        self.counted().load() == ENDED
    }

    /// The kernel lists it.
    #[inline(always)]
    pub fn is_listed(self) {
        // SAFETY: part of a map value.
        unsafe { (*self.record).missing_ms = 0 };
    }

    /// The kernel does not list it; whether that has lasted longer than it takes to set a lease or to end one.
    #[inline(always)]
    pub fn is_missing(self, now_ns: u64) -> bool {
        const LASTING_MS: u32 = 900;
        let now = (now_ns / 1_000_000) as u32;
        // SAFETY: part of a map value.
        unsafe {
            let since = (*self.record).missing_ms;
            if since == 0 {
                (*self.record).missing_ms = now | 1;
            }
            since != 0 && now.wrapping_sub(since) as i32 > LASTING_MS as i32
        }
    }

    /// The record of its inode, if there is one.
    #[inline(always)]
    pub fn inode(self) -> Option<InodeRef> {
        self.inode_by(self.get().counted)
    }

    /// The same where it was counted so before it ended.
    #[inline(always)]
    pub fn inode_by(self, counted: u64) -> Option<InodeRef> {
        if counted & IDLE != 0 {
            InodeRef::find_seldom(self.key.inode)
        } else {
            InodeRef::find_number(counted)
        }
    }

    #[inline(always)]
    fn heirs(self) -> At {
        // SAFETY: part of a map value.
        unsafe { At::new(&raw mut (*self.record).heirs) }
    }

    /// It covers one more process that did not set it.
    #[inline(always)]
    pub fn add_heir(self) {
        self.heirs().add(1);
    }

    #[inline(always)]
    pub fn remove(self) {
        let user = self.get().user;
        if LEASES.remove(self.key).is_err() {
            return;
        }
        Table::Leases.give_back(user);
        if self.key.is_further() {
            further_leases().add(ONE_FEWER);
        }
    }
}

const ONE_FEWER: u64 = 1_u64.wrapping_neg();

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_mark_ended(record: *mut Lease, inode: u64, by: u64, address: u64) -> i64 {
    if record.is_null() {
        return 0;
    }
    let key = LeaseKey { inode, by };
    let found = LeaseRef { key, record };
    // What is found anew is compared, and not looked into: 6.1 does not see that it is there then.
    let ended = idle::end(found.counted(), || {
        LeaseRef::at(key).is_some_and(|there| core::ptr::eq(there.record, found.record))
            && found.is(address)
    });
    ended.unwrap_or(ENDED) as i64
}
