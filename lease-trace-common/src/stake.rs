//! The records of a stake, what one process has in one inode, and of an inode; and what a stake's word
//! stands for. The word itself is in [`crate::word`].

use crate::{COMM_LEN, STACK_LEN, context::Context, lease::LeaseInfo, line, tagged};

pub use crate::word::{LEASE, PIN, ZOMBIE, leases, pins};

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

/// Key of a stake: a thread group and an inode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Stake {
    /// Leases, pins and state, see [`crate::word`].
    pub word: u64,
    /// The stake's own key: whoever found the record by it sees whether it still is that stake's.
    pub key: StakeKey,
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
    /// 1: the monitor was asked to hold the file; a [`crate::tagged`] count.
    pub held: u64,
    /// When the monitor was asked last to signal the owner, see [`Order`]; 0: never.
    pub ordered: u64,
    /// In whose share it is, see [`crate::share`].
    pub user: u64,
    /// How many of the leases others have set: they cover the pins, and count no longer than these.
    pub inherited: u64,
    /// Below the path of which rules the file was, see [`crate::below::Below`].
    pub below: u64,
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

impl Stake {
    /// Whether the monitor was asked to hold the file.
    pub const fn is_held(&self) -> bool {
        self.held & tagged::VALUE == 1
    }
}

/// An order to signal a stake's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// When it was given (CLOCK_BOOTTIME), rounded down to [`Self::GRAIN_NS`].
    pub given_ns: u64,
    /// Of the stake's word: an order for another stake, whose memory this one has, is none.
    pub generation: u64,
    /// [`Action`](crate::policy::Action)
    pub action: u32,
    /// Because its pins are orphaned, so that a lease does not make it void.
    pub orphaned: bool,
}

impl Order {
    const GRAIN: u32 = 20;
    pub const GRAIN_NS: u64 = 1 << Self::GRAIN;

    const ORPHANED: u64 = 1 << 7;

    /// In one word: the action in the lowest byte, with a bit that says whether they are orphaned, the generation in
    /// the 14 bits above it, of which it has 13, the time above these.
    #[inline(always)]
    pub const fn packed(self) -> u64 {
        self.given_ns >> Self::GRAIN << 22
            | (self.generation & crate::word::MOST_GENERATION) << 8
            | (self.action & 0x7f) as u64
            | if self.orphaned { Self::ORPHANED } else { 0 }
    }

    pub const fn unpacked(word: u64) -> Self {
        Self {
            given_ns: word >> 22 << Self::GRAIN,
            generation: word >> 8 & crate::word::MOST_GENERATION,
            action: (word & 0x7f) as u32,
            orphaned: word & Self::ORPHANED != 0,
        }
    }
}

/// Bits of the minor number in a device number of the kernel's own encoding
/// (include/linux/kdev_t.h, `MINORBITS`).
pub const MINOR_BITS: u32 = 20;

/// What all processes together have in one inode. The records sit in the slots of an array, so
/// that one lookup by address finds them and an evicted inode can still be found by its slot. What
/// pins and releases change and read comes first, in as many bytes as a cache line has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Inode {
    /// Leases and pins of all owners, see [`crate::word`].
    pub word: u64,
    /// Owners of pins, see [`crate::tagged::owners`].
    pub owners: u64,
    /// Pins that no stake has, a [`crate::tagged`] count.
    pub unowned: u64,
    /// Releases that no owner was credited with so far, a [`crate::tagged`] count.
    pub owed: u64,
    /// Pins that the only owner may drop without more ado, see [`crate::batch`].
    pub batch: u64,
    /// Address of the `struct address_space` by which a folio's batch is found, 1 at first.
    pub mapping: u64,
    /// Unique while lease-trace runs; never reused.
    pub id: u64,
    /// Address of the `struct inode`; 0 once it was evicted.
    pub address: u64,
    pub ino: u64,
    /// `super_block.s_dev`, in the kernel's own encoding, see [`MINOR_BITS`].
    pub dev: u32,
    pub generation: u32,
    /// How often pins were counted in it, and corrections made: who corrects sees by it that nothing came in
    /// between.
    pub turns: u64,
    /// What a proof found that says less than the words above, mixed into the upper half, and since when it has
    /// found the same (CLOCK_BOOTTIME, ms) in the lower; 0: nothing.
    pub doubt: u64,
    /// In whose share it is, see [`crate::share`]: that of who was at it first.
    pub user: u64,
    /// Pins that were taken out of the unowned and may have been an owner's, in the lower half, and in the upper since
    /// when they are counted (CLOCK_BOOTTIME, ms).
    pub ambiguous: u64,
}

/// A slot of the map of inodes. Its end is empty, so that what pins and releases of one file change shares no cache
/// line with the same of its neighbour, wherever the array begins.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InodeSlot {
    pub inode: Inode,
    empty: [u64; 2],
}

impl InodeSlot {
    /// The map of all slots, named after its section: one value.
    pub const MAP: &str = ".bss.INODES";
}

impl Inode {
    /// Whether what its stakes count is doubtful: less was found in its page cache, or a release could not be
    /// credited to one of several owners.
    #[inline(always)]
    pub fn is_doubtful(&self) -> bool {
        // What is owed is this record's: it is written anew when that is made.
        self.doubt | self.owed & tagged::VALUE != 0
    }
}

/// A slot's number has so many bits: `--capacity` asks for 1,048,576 at most.
pub const SLOT_BITS: u32 = 20;

/// Slot and id of a record in one word.
#[inline(always)]
pub const fn number(slot: u64, id: u64) -> u64 {
    id << SLOT_BITS | slot
}

/// Slot and id in a [`number`].
#[inline(always)]
pub const fn parts_of_number(number: u64) -> (u64, u64) {
    (number & ((1 << SLOT_BITS) - 1), number >> SLOT_BITS)
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
    /// A path of these bytes: of more than `PATH_LEN` the last ones.
    pub fn new(path: &[u8], flags: u32) -> Self {
        let kept = &path[path.len().saturating_sub(crate::PATH_LEN)..];
        let mut bytes = [0; crate::PATH_LEN + crate::NAME_SLACK];
        bytes[crate::PATH_LEN - kept.len()..crate::PATH_LEN].copy_from_slice(kept);
        Self {
            len: kept.len() as u32,
            flags,
            bytes,
        }
    }

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
    /// Address of the inode.
    pub inode: u64,
    /// Slot of the inode's record.
    pub slot: u64,
    /// Inode id that the slot must still have; 0: there was no record yet, since the call that took
    /// these pins had not returned.
    pub inode_id: u64,
    /// How many folios had left so far, see `DETACHINGS`.
    pub order: u64,
    /// Pin references left, a [`crate::tagged`] count with [`detached_tag`].
    pub pins: u64,
}

/// What tells the count of one folio from that of the next one in the same memory: `struct page` has 64
/// bytes.
#[inline(always)]
pub const fn detached_tag(folio: u64) -> u64 {
    folio >> 6 & 0xffff
}

const _: () = assert!(size_of::<StakeKey>() == 16);
const _: () = assert!(size_of::<Task>() == 32);
const _: () = assert!(
    size_of::<Stake>()
        == 16 * 8
            + 3 * size_of::<Task>()
            + size_of::<Context>()
            + size_of::<LeaseInfo>()
            + STACK_LEN * 8
);
const _: () = assert!(size_of::<Inode>() == 112);
const _: () = assert!(core::mem::offset_of!(Inode, ino) == line::BYTES);
const _: () = assert!(size_of::<InodeSlot>() == 2 * line::BYTES);
const _: () = assert!(size_of::<Path>() == 2048);
const _: () = assert!(size_of::<Detached>() == 40);

crate::pod!(StakeKey, Task, Stake, Inode, InodeSlot, Path, Detached);
