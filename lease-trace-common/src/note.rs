//! Notes: stakes that are to be judged before a program ends, or once the kernel has given up `flc_lock`.

use crate::policy::RuleFacts;

/// Notes of one thread at most; a lease that covers more processes is rare. Each may take three looks at all that a file
/// has pinned before its release ends (docs/cost.md), so that more would make it longer.
pub const MOST: u64 = 4;

/// Key of a thread's first note.
#[inline(always)]
pub const fn first(tid: u32) -> u64 {
    tid as u64 * MOST
}

/// Whose note this is the key of.
pub const fn thread(key: u64) -> u32 {
    (key / MOST) as u32
}

/// A stake to be judged, and what it is judged by.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// Its key: what is pushed out of the map leaves its memory to another.
    pub key: u64,
    pub inode_id: u64,
    pub slot: u64,
    pub tgid: u32,
    /// How the lease went or is about to go; 0: it lasts.
    pub cause: u32,
    /// Not 0: see [`Situation::doubtful`](crate::verdict::Situation::doubtful).
    pub doubtful: u64,
    /// Of the pins, those that are not certain.
    pub uncertain: u64,
    /// Not 0: it is judged when the system call has returned, since a rule is about it ([`RULE`]), or would be about more
    /// pins ([`MORE_PINS`]). [`ANY_PINS`] while it is looked for the latter.
    pub waits: u64,
    /// Filled in when it is judged.
    pub facts: RuleFacts,
    /// Address of the owner's task, 0 if it is not known.
    pub owner: u64,
}

/// See [`Pending::waits`].
pub const RULE: u64 = 1;
pub const MORE_PINS: u64 = 2;
pub const ANY_PINS: u64 = 4;

const _: () = assert!(size_of::<Pending>() == 8 * 8 + size_of::<RuleFacts>());

crate::pod!(Pending);
