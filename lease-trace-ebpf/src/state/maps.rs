//! Every map, and the globals.
//!
//! Maps whose number of entries depends on load are allocated on demand (`BPF_F_NO_PREALLOC`), so
//! an idle tracer costs little memory.
//!
//! The kernel writes a look-up in an array out at each place, and moves all that it knows of a program
//! for it. `BPF_F_INNER_MAP` keeps it from that (`array_map_gen_lookup`, kernel/bpf/arraymap.c): ten
//! instructions more to run, where that is rare, for a shorter start.

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use lease_trace_common::{
    STACK_LEN,
    config::Config,
    count::Count,
    lease::Lease,
    owner,
    policy::{self, Facts, Frame, Rule},
    stake::{Detached, Inode, Path, Stake, StakeKey},
};

/// Set by userspace before loading; constant for the verifier.
#[unsafe(no_mangle)]
pub static CONFIG: Config = blank();

/// Leases in force, by the address of their `file_lease`.
#[map]
pub static LEASES: HashMap<u64, Lease> = HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Entries of the maps that `CONFIG.capacity` sizes, until it does.
const CAPACITY: u32 = 65_536;

/// Inodes with leases or pins, by slot.
#[map]
pub static INODES: Array<Inode> = Array::with_max_entries(CAPACITY, 0);

/// Slots of the inodes that are in memory, by address.
#[map]
pub static SLOT_OF: HashMap<u64, u32> = HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Slots given back, oldest first: with the slots never used before taken first, a slot comes
/// round again only after all others.
#[map]
pub static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(CAPACITY, 0);

/// The single source of truth: what each process has in each inode.
#[map]
pub static STAKES: HashMap<StakeKey, Stake> =
    HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Paths, by inode id.
#[map]
pub static PATHS: HashMap<u64, Path> = HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Folios that left the page cache while pinned, by their address.
#[map]
pub static DETACHED: HashMap<u64, Detached> =
    HashMap::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);

/// Calls entered and not yet left, by thread: their arguments, and the mark that says a pin
/// call is under way.
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Stacks of pin calls on their way into a stake, by thread.
#[map]
pub static STACKS: HashMap<u64, [u64; STACK_LEN]> =
    HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// Threads that release pins in the name of another process: thread to that process's `mm`.
#[map]
pub static ACTING: HashMap<u64, u64> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// The policy in force, see `policy::index`.
#[map]
pub static POLICY: Array<u64> = Array::with_max_entries(policy::index::LEN, BPF_F_INNER_MAP);

/// Rules, by bank and number.
#[map]
pub static RULES: Array<Rule> =
    Array::with_max_entries(policy::BANKS * policy::RULES, BPF_F_INNER_MAP);

/// Leases that cover a process which did not set them, see `covers`; the value is the inode id.
#[map]
pub static COVERS: HashMap<CoverKey, u64> = HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Code of the consumers that the policy names.
#[map]
pub static FRAMES: Array<Frame> = Array::with_max_entries(2 * policy::FRAMES, BPF_F_INNER_MAP);

/// What rules came to, see `policy::hit`.
#[map]
pub static HITS: Array<u64> = Array::with_max_entries(policy::ROWS * policy::HITS, BPF_F_INNER_MAP);

/// Stakes to be judged before the current program ends, by thread and number.
#[map]
pub static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// Notifications.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING, 0);

/// Bytes of [`EVENTS`].
pub const RING: u32 = 4 << 20;

/// Wakes whoever waits for pins to go: nobody reads the records, see `notify::wake`.
#[map]
pub static WAKE: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Who the maps belong to, see `owner`. Written by userspace.
#[map]
pub static OWNER: Array<u64> = Array::with_max_entries(owner::LEN, BPF_F_INNER_MAP);

/// Counters, see [`Count`]: a map of one value, in a section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.COUNTS")]
pub static mut COUNTS: [u64; Count::LEN] = [0; Count::LEN];

/// Inode records there are: 0 lets the release hooks return at once.
#[unsafe(no_mangle)]
pub static mut TRACKED: u64 = 0;

/// Inode records with pins: 0 tells the hooks that deny that no release can be a breach.
#[unsafe(no_mangle)]
pub static mut PINNED: u64 = 0;

/// Long-term pin calls under way on all CPUs: 0 spares a look-up at each release.
#[unsafe(no_mangle)]
pub static mut PINNING: u64 = 0;

/// Slots of `INODES` ever used.
#[unsafe(no_mangle)]
pub static mut USED_SLOTS: u64 = 0;

/// Id and slot of the inode record that was found last, see `InodeRef::last`.
#[unsafe(no_mangle)]
pub static mut LAST: u64 = 0;

/// Slots of inodes with an allowance, see `InodeRef::of_mapping`.
#[unsafe(no_mangle)]
pub static mut HINTS: [u64; HINTED] = [0; HINTED];
pub const HINTED: usize = 1024;

/// Always zero, which the verifier does not know.
#[unsafe(no_mangle)]
pub static mut ZERO: u64 = 0;

/// The last inode id given.
#[unsafe(no_mangle)]
pub static mut LAST_ID: u64 = 0;

/// Key of a cover: a lease and a thread group.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CoverKey {
    /// Address of the `file_lease`.
    pub lease: u64,
    pub tgid: u32,
    zero: u32,
}

impl CoverKey {
    #[inline(always)]
    pub const fn new(lease: u64, tgid: u32) -> Self {
        Self {
            lease,
            tgid,
            zero: 0,
        }
    }
}

/// A call entered and not yet left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// First address to pin; for `generic_setlease` and `memfd_pin_folios` the file.
    pub start: u64,
    /// `struct page **`.
    pub pages: u64,
    /// Address space pinned, 0 for the current one.
    pub mm: u64,
    /// FOLL flags; for `generic_setlease` the mode asked for.
    pub flags: u32,
    /// 1 if this call is counted in [`PINNING`].
    pub pinning: u32,
}

impl Call {
    /// A call with a file or an address, an array of pages and flags.
    #[inline(always)]
    pub const fn new(start: u64, pages: u64, flags: u32) -> Self {
        Self {
            start,
            pages,
            mm: 0,
            flags,
            pinning: 0,
        }
    }
}

/// A stake to be judged, and what it is judged by.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    pub inode_id: u64,
    pub slot: u64,
    pub tgid: u32,
    /// How the lease went or is about to go; 0: it lasts.
    pub cause: u32,
    /// Filled in when it is judged.
    pub facts: Facts,
    /// Address of the owner's task, 0 if it is not known.
    pub owner: u64,
}

/// Whether this word of `OWNER` is set.
#[inline(always)]
pub fn owner_says(word: u32) -> bool {
    // SAFETY: a live map value, written by userspace as a whole word.
    OWNER
        .get_ptr(word)
        .is_some_and(|word| unsafe { *word } != 0)
}

const fn blank() -> Config {
    // SAFETY: `Config` is made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// Adds to a counter.
#[inline(always)]
pub fn count(which: Count, n: u64) {
    // SAFETY: a global of this object, with an element for each counter.
    unsafe { crate::bpf::atomic::add((&raw mut COUNTS).cast::<u64>().add(which as usize), n) };
}
