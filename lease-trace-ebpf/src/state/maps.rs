//! Every map, and the globals.
//!
//! Maps whose number of entries depends on load are allocated on demand (`BPF_F_NO_PREALLOC`), so
//! an idle tracer costs little memory.
//!
//! The kernel writes a lookup in an array out at each place, and moves all that it knows of a program
//! for it. `BPF_F_INNER_MAP` keeps it from that (`array_map_gen_lookup`, kernel/bpf/arraymap.c): ten
//! instructions more to run, where that is rare, for a shorter start.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC},
    helpers::generated::bpf_for_each_map_elem,
    macros::map,
    maps::{Array, HashMap, LruHashMap, Queue, RingBuf},
};
use lease_trace_common::{
    STACK_LEN, control,
    count::{Count, PerCpu},
    lease::{Lease, LeaseKey},
    line::Line,
    policy::{self, ConsumerName, Rule, TextRange},
    share::Shares,
    stake::{Detached, InodeSlot, Path, Stake, StakeKey, Task},
    totals::Totals,
    word::Word as _,
};
pub use lease_trace_common::{
    call::Call,
    cover::{CoverKey, Covered},
    note::{ANY_PINS, MORE_PINS, Pending, RULE},
};

use crate::bpf::{atomic::At, task};

/// Leases in force.
#[map]
pub static LEASES: HashMap<LeaseKey, Lease> =
    HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Entries of the maps that `CONFIG.capacity` sizes, until it does. Walks go through all that there is room for
/// (docs/cost.md).
const CAPACITY: u32 = 65_536;

/// Who wanted a lease on a file broken last, by the address of the inode that has its pages.
#[map]
pub static BREAKERS: LruHashMap<u64, Task> = LruHashMap::with_max_entries(BREAKERS_LEN, 0);

/// Few, since this kind of map is allocated at once. An entry matters from the break to the lease's end, which is
/// `fs.lease-break-time` seconds at most: only more files with leases that are opened meanwhile push it out, and then
/// nothing but a name is missing.
const BREAKERS_LEN: u32 = 1 << 10;

/// References to leased files that one system call would drop, counted while it is looked at: what is left of
/// calls that are over makes room by itself.
#[map]
pub static TALLY: LruHashMap<TallyKey, u64> = LruHashMap::with_max_entries(TALLY_LEN, 0);

/// Allocated at once. Only files whose lease is the last cover of the caller's own pins are counted here: as many at
/// one time, over all calls. For what is pushed out a rule's `fallback` applies (docs/enforcement.md).
const TALLY_LEN: u32 = 1 << 12;

/// A file, in one look at one call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TallyKey {
    /// When the look began (CLOCK_BOOTTIME, ns), and the thread: no other is of both.
    pub begun_ns: u64,
    pub thread: u64,
    pub file: u64,
}

/// Inodes with pins, and leases of those who have them, by slot: a map of one value, in a section of its own, so that
/// nothing is looked up. Userspace makes it with `CONFIG.capacity` slots; which of them there is, only
/// `InodeRef` asks.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.INODES")]
pub static mut INODES: InodeSlots = InodeSlots({
    // SAFETY: made of integers only, for which zero is a value.
    unsafe { core::mem::zeroed() }
});

/// The first of them.
#[repr(C, align(64))]
pub struct InodeSlots(InodeSlot);

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
    HashMap::with_max_entries(DETACHED_LEN, BPF_F_NO_PREALLOC);

/// 4 GiB in folios of a page. The buckets, as many, are there from the start, and whoever looks for the folios of one
/// inode goes through all of them, up to three times for a release that is judged: more would make both longer.
const DETACHED_LEN: u32 = 1 << 20;

/// Calls entered and not yet left, by thread: their arguments, and the mark that says a pin
/// call is under way.
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(CALLS_LEN, BPF_F_NO_PREALLOC);

/// Threads inside such a call at once, which is twice as many as a kernel gives pids by default
/// (`PID_MAX_DEFAULT`, include/linux/threads.h).
const CALLS_LEN: u32 = 1 << 16;

/// Stacks of pin calls on their way into a stake, by thread.
#[map]
pub static STACKS: HashMap<u64, [u64; STACK_LEN]> =
    HashMap::with_max_entries(STACKS_LEN, BPF_F_NO_PREALLOC);

/// An entry stays for one run of a program: more are there only where more processors than this, or tasks preempted in
/// programs, take first pins or judge at one moment. Without room the stack is missing, and nothing else.
const STACKS_LEN: u32 = 1 << 12;

/// The policy in force, see `policy::index`.
#[map]
pub static POLICY: Array<u64> = Array::with_max_entries(policy::index::LEN, BPF_F_INNER_MAP);

/// Rules, by bank and number.
#[map]
pub static RULES: Array<Rule> =
    Array::with_max_entries(policy::BANKS * policy::RULES, BPF_F_INNER_MAP);

/// Leases that cover a process which did not set them, see `lease_trace_common::cover`.
#[map]
pub static COVERS: HashMap<CoverKey, Covered> =
    HashMap::with_max_entries(CAPACITY, BPF_F_NO_PREALLOC);

/// Code of the consumers that the policy names.
#[map]
pub static TEXT_RANGES: Array<TextRange> =
    Array::with_max_entries(2 * policy::TEXT_RANGES, BPF_F_INNER_MAP);

/// The names of these consumers, in two halves as their code: no program reads them, but who puts the
/// policy in force is gone when modules come and go.
#[map]
pub static CONSUMERS: Array<ConsumerName> = Array::with_max_entries(2 * policy::CONSUMERS, 0);

/// What rules came to, see `policy::hit`.
#[map]
pub static HITS: Array<u64> = Array::with_max_entries(policy::ROWS * policy::HITS, BPF_F_INNER_MAP);

/// Stakes to be judged before the current program ends, or once the kernel has given up `flc_lock`, by thread and
/// number. What a thread leaves behind that was not judged makes room for others.
#[map]
pub static PENDING: LruHashMap<u64, Pending> = LruHashMap::with_max_entries(PENDING_LEN, 0);

/// Allocated at once. A note is there until its thread's program or system call ends: those of so many threads that are
/// in breach at one moment, with `notes::MOST` each, find room beside each other: 1,024.
const PENDING_LEN: u32 = 1 << 12;

/// Stakes whose owner dropped his own last reference while others keep the lease, by a monitor's walk, with their word
/// at that time: to be judged when somebody reads, see `judge/orphans.rs`.
#[map]
pub static ORPHANS: HashMap<StakeKey, u64> =
    HashMap::with_max_entries(ORPHANS_LEN, BPF_F_NO_PREALLOC);

/// More than are judged at one time (`tracer/orphans.rs`).
const ORPHANS_LEN: u32 = 1 << 6;

/// Notifications.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING, 0);

/// Bytes of [`EVENTS`]: some 6,000 notifications with short paths, which wait there only until the monitor's own thread
/// has taken them out (docs/cost.md). A monitor maps them twice, and with 8 MiB they are the largest part of the 20 MiB
/// that it is to take at most.
pub const RING: u32 = 4 << 20;

/// Wakes whoever waits for pins to go: nobody reads the records, see `notify::wake`.
#[map]
pub static WAKE: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Whose the maps are, and flags for the programs, see `control`. Written by userspace.
#[map]
pub static CONTROL: Array<u64> = Array::with_max_entries(control::LEN, BPF_F_INNER_MAP);

/// See [`control::SET_ON_RETURN`]: written by userspace.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.SET_ON_RETURN")]
pub static mut SET_ON_RETURN: Line = Line::new(0);

/// Counters, see [`Count`]: a map of one value, in a section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.COUNTS")]
pub static mut COUNTS: PerCpu = PerCpu::ZERO;

/// See [`Totals`]: a map of one value, in a section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.TOTALS")]
pub static mut TOTALS: Totals = Totals {
    tracked: Line::new(0),
    pinned: Line::new(0),
    pinning: Line::new(0),
};

/// Folios that left the page cache while pinned, ever.
#[unsafe(no_mangle)]
pub static mut DETACHINGS: Line = Line::new(0);

/// Slots of `INODES` ever used.
#[unsafe(no_mangle)]
pub static mut USED_SLOTS: Line = Line::new(0);

/// Id and slot of the inode record that was found last, see `InodeRef::last`.
#[unsafe(no_mangle)]
pub static mut LAST: Line = Line::new(0);

/// Slots of inodes with a batch, see `InodeRef::batch_of_mapping`.
#[unsafe(no_mangle)]
pub static mut HINTS: Hints = Hints([0; HINTED]);
/// A power of two: the lowest bits of an address are the index, without a shift. Addresses of inodes are some hundred
/// bytes from each other, so that a few of these are used for each file. Where two files have the same, the other one's
/// drops take the longer way.
pub const HINTED: usize = 1024;

/// How many records there are of inodes with such addresses, see `InodeRef::find_seldom`: a map of one value, in a
/// section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.RECORDS")]
pub static mut RECORDS: Records = Records([0; SIEVE]);
/// A power of two; as many records as this let two of three addresses through.
pub const SIEVE: usize = 1 << 13;

/// Written where a record is made or deleted.
#[repr(C, align(64))]
pub struct Records([u64; SIEVE]);

/// How many entries each user has in each table, see [`Shares`]: a map of one value, in a section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.SHARES")]
pub static mut SHARES: Shares = Shares::ZERO;

/// Written where another file gets a batch, and read at each release.
#[repr(C, align(64))]
pub struct Hints([u64; HINTED]);

/// The last inode id given.
#[unsafe(no_mangle)]
pub static mut LAST_ID: Line = Line::new(0);

/// Leases that were set and are yet to cover others, see `track::lease`.
#[unsafe(no_mangle)]
pub static mut SPREADS: Line = Line::new(0);

/// Entries of leases that are not the first of their setters in their inodes.
#[unsafe(no_mangle)]
pub static mut FURTHER_LEASES: Line = Line::new(0);

/// How many entries of leases were made.
#[unsafe(no_mangle)]
pub static mut LAST_LEASE: Line = Line::new(0);

/// How many stakes were made: the lower bits are the next one's generation.
#[unsafe(no_mangle)]
pub static mut LAST_GENERATION: Line = Line::new(0);

/// The word of a global in a cache line of its own.
///
/// # Safety
/// `global` is a global of this object: it is there as long as the programs, and begins with its word.
#[inline(always)]
pub const unsafe fn word_of(global: *mut Line) -> At {
    // SAFETY: the caller's.
    unsafe { At::new(global.cast()) }
}

/// [`Totals::tracked`].
#[inline(always)]
pub fn tracked() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut TOTALS.tracked) }
}

/// [`Totals::pinned`].
#[inline(always)]
pub fn pinned() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut TOTALS.pinned) }
}

/// [`Totals::pinning`].
#[inline(always)]
pub fn pinning() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut TOTALS.pinning) }
}

/// [`DETACHINGS`].
#[inline(always)]
pub fn detachings() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut DETACHINGS) }
}

/// [`SPREADS`].
#[inline(always)]
pub fn spreads() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut SPREADS) }
}

/// [`FURTHER_LEASES`].
#[inline(always)]
pub fn further_leases() -> At {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut FURTHER_LEASES) }
}

/// There are no records: every hook that drops pins returns at once.
#[inline(always)]
pub fn nothing_tracked() -> bool {
    tracked().load() == 0
}

/// No file has pins.
#[inline(always)]
pub fn nothing_pinned() -> bool {
    pinned().load() == 0
}

/// Whether this word of `CONTROL` is set.
#[inline(always)]
pub fn control_flag(word: u32) -> bool {
    control_word(word) != 0
}

/// This word of `CONTROL`.
#[inline(always)]
pub fn control_word(word: u32) -> u64 {
    // SAFETY: a live map value, written by userspace as a whole word.
    CONTROL.get_ptr(word).map_or(0, |word| unsafe { *word })
}

/// Whether a lease that a process sets may have to be found on return.
#[inline(always)]
pub fn is_set_on_return() -> bool {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut SET_ON_RETURN) }.load() != 0
}

/// Adds to a counter of this CPU. A task may be preempted in between, so that is an atomic addition, too.
#[inline(always)]
pub fn count(which: Count, n: u64) {
    let cpu = if which.is_frequent() {
        task::cpu() as usize & (PerCpu::CPUS - 1)
    } else {
        0
    };
    // SAFETY: a global of this object, with an element for each counter of each CPU.
    let counter = unsafe {
        let counters = (&raw mut COUNTS).cast::<[u64; PerCpu::STRIDE]>().add(cpu);
        At::new(counters.cast::<u64>().add(which as usize))
    };
    counter.add(n);
}

/// A callback of bpf_for_each_map_elem: the map, an element's key and value, and state; 1 ends the
/// loop.
type Element<K, V, T> = unsafe extern "C" fn(*mut c_void, *mut K, *mut V, *mut T) -> i64;

/// Calls `each` for every stake.
#[inline(always)]
pub fn walk_stakes<T>(each: Element<StakeKey, Stake, T>, state: &mut T) {
    walk(&STAKES, each, state);
}

/// Calls `each` for every cover.
#[inline(always)]
pub fn walk_covers<T>(each: Element<CoverKey, Covered, T>, state: &mut T) {
    walk(&COVERS, each, state);
}

/// Calls `each` for every folio that left the page cache while pinned.
#[inline(always)]
pub fn walk_detached<T>(each: Element<u64, Detached, T>, state: &mut T) {
    walk(&DETACHED, each, state);
}

#[inline(always)]
fn walk<K, V, T>(map: &'static HashMap<K, V>, each: Element<K, V, T>, state: &mut T) {
    // SAFETY: the callback has the signature that the helper wants for this map and this state, which
    // outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            core::ptr::from_ref(map).cast_mut().cast(),
            each as *mut c_void,
            core::ptr::from_mut(state).cast(),
            0,
        )
    };
}

/// Whether the lease covers this process, which did not set it.
#[inline(always)]
pub fn covers(lease: u64, tgid: u32) -> bool {
    COVERS.get_ptr(CoverKey::new(lease, tgid)).is_some()
}
