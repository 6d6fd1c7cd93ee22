//! The state machine of a stake: what one process has in one inode.
//!
//! Leases and pins share one 64-bit word that is only ever changed by atomic additions and bit
//! operations, so that whichever CPU makes a transition learns it from the old value it got back,
//! and no other CPU learns the same. The functions here interpret an old value; the callers do
//! the atomics.
//!
//! ```text
//!  63            24  23      22    21         0
//! +----------------+--------+------+------------+
//! | pin references | zombie | dead |   leases   |
//! +----------------+--------+------+------------+
//! ```
//!
//! Pins sit at the top so that a subtraction too many wraps around without touching the rest.

use crate::{COMM_LEN, STACK_LEN, context::Context, lease::LeaseInfo};

/// One pin reference in a [`Stake::word`].
pub const PIN: u64 = 1 << PIN_SHIFT;
const PIN_SHIFT: u32 = 24;
/// The last lease went while pins remained, and they have not all gone yet.
pub const ZOMBIE: u64 = 1 << 23;
/// The record is about to be deleted: whoever finds it must look again.
pub const DEAD: u64 = 1 << 22;
/// One lease in a [`Stake::word`].
pub const LEASE: u64 = 1;
const LEASES: u64 = DEAD - 1;

/// Pin references in a word.
#[inline(always)]
pub const fn pins(word: u64) -> u64 {
    word >> PIN_SHIFT
}

/// Leases in a word.
#[inline(always)]
pub const fn leases(word: u64) -> u64 {
    word & LEASES
}

/// What a stake is, as people speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither a lease nor a pin.
    Empty,
    /// A lease and no pin.
    Leased,
    /// Pins under a lease: the rule is kept.
    Covered,
    /// Pins whose last lease went.
    Zombie,
    /// Pins that no lease ever covered.
    BarePin,
}

/// The state that a word stands for.
#[inline(always)]
pub const fn state(word: u64) -> State {
    match (pins(word) > 0, leases(word) > 0, word & ZOMBIE != 0) {
        (true, _, true) => State::Zombie,
        (true, true, false) => State::Covered,
        (true, false, false) => State::BarePin,
        (false, true, _) => State::Leased,
        (false, false, _) => State::Empty,
    }
}

/// What adding pins to the word `old` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// The first pins, and no lease covers them.
    Bare,
    /// The first pins, under a lease.
    First,
    /// More of what was there.
    More,
    /// The record was being deleted at that very moment: the pins are not counted.
    Dead,
}

/// Reads the transition of `fetch_add(n * PIN)`, which returned `old`.
#[inline(always)]
pub const fn after_pin(old: u64) -> Pinned {
    if old & DEAD != 0 {
        Pinned::Dead
    } else if pins(old) > 0 {
        Pinned::More
    } else if leases(old) == 0 {
        Pinned::Bare
    } else {
        Pinned::First
    }
}

/// What dropping pins did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpinned {
    /// Pins remain.
    Some,
    /// The last pin went; nothing was owed.
    Last,
    /// The last pin of a zombie went: it is at rest. [`ZOMBIE`] must be cleared.
    AtRest,
    /// More was dropped than was known. The caller must add `excess * PIN` back.
    Excess { excess: u64, at_rest: bool },
}

/// Reads the transition of `fetch_sub(n * PIN)`, which returned `old`.
#[inline(always)]
pub const fn after_unpin(old: u64, n: u64) -> Unpinned {
    let had = pins(old);
    if had < n {
        Unpinned::Excess {
            excess: n - had,
            at_rest: had > 0 && old & ZOMBIE != 0,
        }
    } else if had > n {
        Unpinned::Some
    } else if old & ZOMBIE != 0 {
        Unpinned::AtRest
    } else {
        Unpinned::Last
    }
}

/// Reads the transition of `fetch_sub(LEASE)`, which returned `old`: the number of pins left
/// without a lease, if this made a zombie. The caller must then `fetch_or(ZOMBIE)` and hand what
/// that returned to [`after_mark`].
#[inline(always)]
pub const fn after_lease_end(old: u64) -> Option<u64> {
    if leases(old) == 1 && pins(old) > 0 && old & ZOMBIE == 0 {
        Some(pins(old))
    } else {
        None
    }
}

/// Whether the last pin went between the end of the lease and the mark, so that the CPU which
/// dropped it could not see the zombie: then the marker must report it at rest, too.
#[inline(always)]
pub const fn after_mark(old: u64) -> bool {
    pins(old) == 0
}

/// Key of a stake: a thread group and an inode.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StakeKey {
    /// Inode id, see [`Inode::id`].
    pub inode: u64,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    pub zero: u32,
}

impl StakeKey {
    #[inline(always)]
    pub const fn new(tgid: u32, inode: u64) -> Self {
        Self {
            inode,
            tgid,
            zero: 0,
        }
    }
}

/// Who did something: one thread group, as it was at that moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    pub uid: u32,
    /// Id of the cgroup in the unified hierarchy: the inode number of its directory.
    pub cgroup: u64,
    pub comm: [u8; COMM_LEN],
}

/// What one process has in one inode.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stake {
    /// Leases, pins and state, see the module.
    pub word: u64,
    pub owner: Task,
    /// When the first pin of the present run was taken (CLOCK_BOOTTIME, ns).
    pub pinned_ns: u64,
    /// When the last lease went (CLOCK_BOOTTIME, ns), if this is a zombie.
    pub released_ns: u64,
    /// Most pin references at one time.
    pub peak: u64,
    /// `mm_struct` of the owner, to credit a release that another task makes in its name.
    pub mm: u64,
    /// Slot of the inode's record.
    pub slot: u64,
    /// Address of a task of the owner's, as it was at the first pin; it may be gone.
    pub task: u64,
    /// When the owner was started (`task_struct.start_boottime` of its leader, ns): with the
    /// thread group id it names one process for ever.
    pub started_ns: u64,
    /// Address of the file of the lease that was set or ended last, or of the first pins; it may
    /// be gone.
    pub file: u64,
    /// 1: the monitor was asked to hold the file.
    pub held: u64,
    /// How many of the leases others have set: they cover the pins, and count no longer than these.
    pub inherited: u64,
    /// The newest lease, or the one that ended last.
    pub lease: LeaseInfo,
    /// Who let the last lease go.
    pub releaser: Task,
    /// Who wanted that lease broken; all zeroes if nobody did.
    pub breaker: Task,
    /// The file through which the first pins were taken.
    pub context: Context,
    /// Return addresses of the call that took the first pins, innermost first, 0 at the end.
    pub stack: [u64; STACK_LEN],
}

/// Bits of the minor number in a device number of the kernel's own encoding
/// (include/linux/kdev_t.h, `MINORBITS`).
pub const MINOR_BITS: u32 = 20;

/// What all processes together have in one inode. The records sit in the slots of an array, so
/// that one look-up by address finds them and an evicted inode can still be found by its slot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Leases and pins of all owners; same layout as [`Stake::word`], without the zombie bit.
    pub word: u64,
    /// Owners of pins: their number in the upper 24 bits, the sum of their thread group ids
    /// below, so that the only owner can be named without a walk.
    pub owners: u64,
    /// Short-term pins counted because long-term ones are there.
    pub short_term: u64,
    /// Releases that no owner could be credited with.
    pub unattributed: u64,
    /// Pins that the only owner may drop without more ado, see [`allowance`].
    pub allowance: u64,
    /// Address of the `struct address_space` by which a folio's allowance is found, 0 at first.
    pub mapping: u64,
    /// Unique while lease-trace runs; never reused.
    pub id: u64,
    /// Address of the `struct inode`; 0 once it was evicted.
    pub address: u64,
    pub ino: u64,
    /// `super_block.s_dev`, in the kernel's own encoding, see [`MINOR_BITS`].
    pub dev: u32,
    pub generation: u32,
    /// Who wanted a lease on this file broken last; all zeroes if nobody did.
    pub breaker: Task,
}

/// One owner in [`Inode::owners`].
#[inline(always)]
pub const fn owner(tgid: u32) -> u64 {
    1 << OWNER_SHIFT | tgid as u64
}
const OWNER_SHIFT: u32 = 40;

/// How many owners there are.
#[inline(always)]
pub const fn owner_count(owners: u64) -> u64 {
    owners >> OWNER_SHIFT
}

/// The thread group id of the only owner; `None` when there are several or none.
#[inline(always)]
pub const fn sole_owner(owners: u64) -> Option<u32> {
    if owner_count(owners) == 1 {
        Some(owners as u32)
    } else {
        None
    }
}

/// The only owner of pins in an inode drops them one by one, and to find its stake each time would
/// cost more than all the rest. So an inode's record has an allowance: so many pins may be dropped by
/// counting the allowance down, and nothing else is touched. What was spent is taken from the stake and
/// from the inode's word together: at the latest with the last pin, which no allowance covers, before
/// anybody else has pins, and before anything is judged by how many there are.
///
/// An allowance is one word: what is left, what was granted, whose pins they are, and the lower bits of
/// the inode's id, so that it is never taken for one of the slot's next inode. 0 is none.
#[inline(always)]
pub const fn allowance(inode_id: u64, tgid: u32, n: u64) -> u64 {
    inode_id << ALLOWANCE_INODE_SHIFT
        | (tgid as u64) << ALLOWANCE_OWNER_SHIFT
        | n << ALLOWANCE_GRANTED_SHIFT
        | n
}
const ALLOWANCE_GRANTED_SHIFT: u32 = 10;
const ALLOWANCE_OWNER_SHIFT: u32 = 20;
const ALLOWANCE_INODE_SHIFT: u32 = 42;

/// Thread group ids are below that (include/linux/threads.h, `PID_MAX_LIMIT`).
const _: () = assert!(1 << (ALLOWANCE_INODE_SHIFT - ALLOWANCE_OWNER_SHIFT) == 4 << 20);

/// The most pins of an allowance, so that what a stake counts is never far from what there is.
pub const MOST_ALLOWANCE: u64 = (1 << ALLOWANCE_GRANTED_SHIFT) - 1;

/// An allowance with `n` pins less; `None` if so many are not left.
#[inline(always)]
pub const fn spend(allowance: u64, n: u64) -> Option<u64> {
    if allowance & MOST_ALLOWANCE < n {
        None
    } else {
        Some(allowance - n)
    }
}

/// How many pins of an allowance were dropped.
#[inline(always)]
pub const fn spent(allowance: u64) -> u64 {
    (allowance >> ALLOWANCE_GRANTED_SHIFT & MOST_ALLOWANCE) - (allowance & MOST_ALLOWANCE)
}

/// Whose they are.
#[inline(always)]
pub const fn allowance_owner(allowance: u64) -> u32 {
    (allowance >> ALLOWANCE_OWNER_SHIFT) as u32
        & ((1 << (ALLOWANCE_INODE_SHIFT - ALLOWANCE_OWNER_SHIFT)) - 1)
}

/// The word of a stake with those of its pins taken out that were dropped by an allowance.
#[inline(always)]
pub const fn settled(word: u64, tgid: u32, allowance: u64) -> u64 {
    if allowance_owner(allowance) != tgid || spent(allowance) > pins(word) {
        return word;
    }
    word - spent(allowance) * PIN
}

/// The path by which a file was leased or pinned, see [`Path::as_bytes`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Path {
    /// Bytes of the path.
    pub len: u32,
    /// Set of [`path_flag`].
    pub flags: u32,
    /// The path ends at `PATH_LEN`; the slack behind it lets the verifier see that any name fits.
    pub bytes: [u8; crate::PATH_LEN + crate::NAME_SLACK],
}

impl Path {
    /// The path, without a terminating NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let start = crate::PATH_LEN.saturating_sub(self.len as usize);
        &self.bytes[start..crate::PATH_LEN]
    }
}

/// What is known of a [`Path`] beside its bytes.
pub mod path_flag {
    /// The beginning is missing: the path has more bytes or components than are kept.
    pub const TRUNCATED: u32 = 1;
    /// Taken from the inode alone: the path inside its file system, without the mount point.
    pub const NO_MOUNT: u32 = 2;
    /// The file was already unlinked.
    pub const DELETED: u32 = 4;
}

/// Pins on a folio that left the page cache while pinned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Detached {
    /// Slot of the inode's record.
    pub slot: u64,
    /// Inode id that the slot must still have.
    pub inode_id: u64,
    /// Pin references left.
    pub pins: u64,
}

const _: () = assert!(size_of::<StakeKey>() == 16);
const _: () = assert!(size_of::<Task>() == 32);
const _: () = assert!(
    size_of::<Stake>()
        == 11 * 8
            + 3 * size_of::<Task>()
            + size_of::<Context>()
            + size_of::<LeaseInfo>()
            + STACK_LEN * 8
);
const _: () = assert!(size_of::<Inode>() == 112);
const _: () = assert!(size_of::<Path>() == 2048);
const _: () = assert!(size_of::<Detached>() == 24);

crate::pod!(StakeKey, Task, Stake, Inode, Path, Detached);
