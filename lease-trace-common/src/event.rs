//! Notifications of transitions, as they cross the ring buffer. Never the only copy of anything:
//! the stakes in the maps are the truth.

use crate::{
    STACK_LEN,
    context::Context,
    lease::LeaseInfo,
    policy,
    stake::{StakeKey, Task},
};

/// What happened.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    LeaseSet = 1,
    LeaseEnd = 2,
    Zombie = 3,
    AtRest = 4,
    BarePin = 5,
    /// A rule matched a breach: see [`Event::action`].
    Action = 6,
    /// A stake has both a lease and pins, and a rule holds the file from now on.
    Hold = 7,
    /// The pins of a held stake are gone: the file can be let go.
    Unhold = 8,
    /// The owner of pins has no reference to the leased file any more. Found by the monitor.
    OrphanedPin = 9,
    /// Such pins are gone, or covered again.
    OrphanEnd = 10,
    /// The last of pins was dropped that had been told of as bare, and had not become a zombie's.
    BarePinEnd = 11,
}

impl EventKind {
    pub fn from_raw(raw: u32) -> Option<Self> {
        [
            Self::LeaseSet,
            Self::LeaseEnd,
            Self::Zombie,
            Self::AtRest,
            Self::BarePin,
            Self::Action,
            Self::Hold,
            Self::Unhold,
            Self::OrphanedPin,
            Self::OrphanEnd,
            Self::BarePinEnd,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == raw)
    }
}

/// One notification; `path_len` bytes of path follow it in the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// CLOCK_BOOTTIME, ns.
    pub time_ns: u64,
    /// [`EventKind`].
    pub kind: u32,
    pub path_len: u32,
    /// Set of [`crate::stake::path_flag`].
    pub path_flags: u32,
    pub dev: u32,
    pub ino: u64,
    /// Inode id, see [`crate::stake::Inode::id`].
    pub inode_id: u64,
    /// Owner of the stake; for `LeaseSet` and `LeaseEnd` the setter of the lease.
    pub owner: Task,
    /// Who let the lease go (`LeaseEnd`, `Zombie`), who dropped the last pin (`AtRest`, `BarePinEnd`).
    pub releaser: Task,
    /// Who wanted the lease broken; all zeroes if nobody did.
    pub breaker: Task,
    /// The file through which the pins were taken.
    pub context: Context,
    /// The lease meant; `is_lease()` is false for a bare pin.
    pub lease: LeaseInfo,
    /// Pin references now; at an `AtRest` or `BarePinEnd`, the most there were.
    pub pins: u64,
    /// When the lease went (`Zombie`, `AtRest`); when the first pin was taken (`BarePin`, `BarePinEnd`).
    pub since_ns: u64,
    /// When the first of the pins was taken (`Zombie`, `AtRest`, and of bare pins), else 0.
    pub pinned_ns: u64,
    /// [`crate::stake::Stake::started_ns`] of the owner.
    pub started_ns: u64,
    /// Thread that the event happened in.
    pub thread: u32,
    /// [`crate::policy::Action`] and [`crate::verdict::Outcome`] of an `Action`.
    pub action: u32,
    pub outcome: u32,
    /// 1: on behalf of a policy in enforce mode.
    pub enforced: u32,
    /// 1: how many pins there are is doubtful, see [`crate::stake::Inode::is_doubtful`].
    pub doubtful: u32,
    pub zero: u32,
    /// Grace time of the rule, ms.
    pub grace_ms: u64,
    /// Name of the rule, NUL-padded; empty without one.
    pub rule: [u8; policy::NAME_LEN],
    /// Stack of the first pin; of an `Action` the stack at the spot.
    pub stack: [u64; STACK_LEN],
}

/// One reference to a leased file, or to another of a tracked inode, as the iterators write it: a
/// descriptor or a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Address of the `file_lease`, 0 if there is none.
    pub lease: u64,
    /// Inode id, 0 if the inode is not tracked.
    pub inode_id: u64,
    /// Address of the open file description.
    pub file: u64,
    /// The addresses of a mapping, from the first to the one behind the last; 0 for a descriptor.
    pub start: u64,
    pub end: u64,
    pub tgid: u32,
    /// [`MAPPING`] for a mapping.
    pub fd: u32,
    /// `flc_flags` of the lease.
    pub flags: u32,
    /// Whose pins would be left uncovered if the lease went now: a thread group, or 0.
    pub uncovers: u32,
    /// References to the open file description, of whatever sort; 0 if it is not leased.
    pub references: u64,
    /// Address of the table of descriptors (`files_struct`), or of the `mm_struct` of a mapping: several tasks may share
    /// it, and the one reference.
    pub table: u64,
    /// Name of the thread group.
    pub comm: [u8; crate::COMM_LEN],
}

/// [`Found::fd`] of a reference that is a mapping.
pub const MAPPING: u32 = u32::MAX;

const _: () = assert!(size_of::<Found>() == 88);

const _: () =
    assert!(size_of::<Event>() == 40 + 3 * 32 + 32 + 24 + 64 + policy::NAME_LEN + STACK_LEN * 8);

crate::pod!(Event, Found);

impl Event {
    /// The stake it is about.
    pub const fn stake(&self) -> StakeKey {
        StakeKey::new(self.owner.tgid, self.inode_id)
    }

    /// Reads one ring-buffer record: the event and its path.
    ///
    /// Returns `None` if the record is shorter than its own header or than the path it announces.
    #[cfg(feature = "user")]
    pub fn parse(record: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = record.split_at_checked(size_of::<Self>())?;
        // SAFETY: `head` has exactly the size of an `Event`, for which every bit pattern is a
        // value; the read does not assume alignment.
        let event = unsafe { core::ptr::read_unaligned(head.as_ptr().cast::<Self>()) };
        let path = rest.get(..event.path_len as usize)?;
        Some((event, path))
    }
}
