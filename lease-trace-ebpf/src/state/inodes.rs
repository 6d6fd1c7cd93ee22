//! The records of inodes: found, made and dropped.

mod doubt;

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    batch,
    books::{self, Words},
    count::Count,
    idle::Of,
    share::{self, Table},
    stake::{self, Inode},
    tagged,
    word::{self, Change, Word as _},
};

use crate::{
    bpf::{
        atomic::{At, unknown_pointer},
        config::{CONFIG, constant},
        loops::{self, Turn},
        mem, task,
    },
    kernel::Pointer,
    state::{
        losses::lost,
        maps::{
            FREE_SLOTS, HINTED, HINTS, INODES, LAST, LAST_ID, PATHS, RECORDS, SIEVE, SLOT_OF,
            USED_SLOTS, tracked, word_of,
        },
        shares::Share as _,
    },
};

/// How often a record is looked up again that is just being made or deleted: with [`WAIT_NS`] that is 48 ms.
pub const TRIES: u32 = 6;

/// How long, before each of these, it is looked whether whoever makes or deletes it is done. That takes it some
/// hundred instructions, but its CPU may be a virtual one that gets no time on the host for a while (storm.rs: with
/// 4 ms in all, records were lost), or its task be preempted there, where a kernel preempts tasks in programs.
const WAIT_NS: u64 = 8_000_000;
/// Looks in that time at most.
const LOOKS: u32 = 1 << 17;

/// Looks at what `what` stands for until it is settled, or time is up.
#[inline(always)]
pub fn wait_until<T: Copy>(what: T, look: Turn) {
    let mut waiting = Waiting {
        what,
        until: task::now() + WAIT_NS,
    };
    loops::repeat(LOOKS, look, &mut waiting);
}

/// What is waited for, and until when.
#[derive(Clone, Copy)]
pub struct Waiting<T> {
    pub what: T,
    until: u64,
}

impl<T> Waiting<T> {
    /// Whether the wait goes on.
    #[inline(always)]
    pub fn goes_on(&self) -> bool {
        task::now() < self.until
    }
}

/// The record of an inode. The slot may become another inode's: a change through this one fails then.
#[derive(Clone, Copy)]
pub struct InodeRef {
    pub slot: u32,
    pub id: u64,
    record: NonNull<Inode>,
}

impl InodeRef {
    /// The record of the inode at this address, if it is tracked.
    #[inline(always)]
    pub fn find(address: u64) -> Option<Self> {
        if let Some(found) = Self::last(address) {
            return Some(found);
        }
        // SAFETY: a live map value.
        let slot = unsafe { *SLOT_OF.get_ptr(address)? };
        let found = Self::at(u64::from(slot));
        if !found.is_of(address) || !found.is_live() {
            return None;
        }
        // SAFETY: LAST is a global of this object, and begins with its word.
        unsafe { core::ptr::write_volatile((&raw mut LAST).cast(), found.number()) };
        Some(found)
    }

    /// The same for an address that is seldom of a tracked inode: mostly this spares the lookup.
    #[inline(always)]
    pub fn find_seldom(address: u64) -> Option<Self> {
        if records_like(address).load() == 0 {
            return None;
        }
        Self::find(address)
    }

    /// The record that was found last, by whomever, if it is that of the inode at this address: events
    /// mostly come in runs, and this spares the lookup.
    #[inline(always)]
    fn last(inode: u64) -> Option<Self> {
        // SAFETY: a global of this object.
        let last = unsafe { word_of(&raw mut LAST) }.load();
        let found = Self::find_number(last)?;
        if found.is_of(inode) && found.is_live() {
            Some(found)
        } else {
            None
        }
    }

    #[inline(always)]
    fn is_of(self, address: u64) -> bool {
        // SAFETY: `record` is an element of an array, read as a whole word.
        unsafe { core::ptr::read_volatile(&raw const (*self.record.as_ptr()).address) == address }
    }

    #[inline(always)]
    fn is_live(self) -> bool {
        word::is_of(self.words().word.load(), books::generation(self.id))
    }

    /// Of which record its words are.
    #[inline(always)]
    pub const fn generation(self) -> u64 {
        books::generation(self.id)
    }

    /// How often pins were counted in it, and corrections made.
    #[inline(always)]
    pub fn turns(self) -> At {
        // SAFETY: `record` is an element of an array.
        unsafe { At::new(&raw mut (*self.record.as_ptr()).turns) }
    }

    /// Id and slot in one word.
    #[inline(always)]
    pub fn number(self) -> u64 {
        Self::number_of(u64::from(self.slot), self.id)
    }

    /// The same of the record with this id, in this slot.
    #[inline(always)]
    pub const fn number_of(slot: u64, id: u64) -> u64 {
        stake::number(slot, id)
    }

    /// Slot and id in a [`Self::number`].
    #[inline(always)]
    pub const fn parts_of(number: u64) -> (u64, u64) {
        stake::parts_of_number(number)
    }

    /// The record that [`Self::number`] names.
    #[inline(always)]
    pub fn find_number(number: u64) -> Option<Self> {
        let (slot, id) = Self::parts_of(number);
        Self::find_slot(slot, id)
    }

    /// The record in a slot if it still is that of the inode with this id.
    #[inline(always)]
    pub fn find_slot(slot: u64, id: u64) -> Option<Self> {
        Some(Self::at(slot)).filter(|found| found.id == id)
    }

    #[inline(always)]
    fn at(slot: u64) -> Self {
        let record = in_slot(slot);
        // SAFETY: an element of an array, read as a whole word.
        let id = unsafe { core::ptr::read_volatile(&raw const (*record.as_ptr()).id) };
        let slot = slot as u32;
        Self { slot, id, record }
    }

    /// Calls `change`, which is one of the inode at this address and answers as [`Self::answer`] has it, until it
    /// is made or cannot be.
    #[inline(always)]
    pub fn until_made(address: u64, change: impl Fn() -> i64) -> Option<Self> {
        let mut made = AGAIN;
        for _ in 0..TRIES {
            made = change();
            if made != AGAIN {
                break;
            }
        }
        if made > 0 {
            return Self::find_number(made as u64);
        }
        lost(no_record(made, Count::LostInodes), 1, address);
        None
    }

    /// The inode's record, made if there is none, or what a function of its own answers where it is not
    /// to be had. `numbers` are the inode's: its own, and device and generation in one word.
    #[inline(always)]
    pub fn find_or_make(address: u64, numbers: impl Fn() -> (u64, u64)) -> Result<Self, i64> {
        if let Some(found) = Self::find(address) {
            return Ok(found);
        }
        let (ino, dev_and_generation) = numbers();
        match inode_make(address, ino, dev_and_generation) {
            0 => Err(AGAIN),
            made if made < 0 => Err(made),
            made => Ok(Self::at(made as u64 - 1)),
        }
    }

    /// What a function of its own answers that changed the record: its number if it could.
    #[inline(always)]
    pub fn answer(self, change: Change) -> i64 {
        if change.is_made() {
            self.number() as i64
        } else if change.is(Change::FULL) {
            NO_ROOM
        } else {
            AGAIN
        }
    }

    /// The inode is being destroyed: only its slot leads to the record from now on. In this order, since
    /// whoever opens a batch looks at the address after it has set the mapping.
    #[inline(always)]
    pub fn evicted(self, address: u64) {
        if self.forget_address(address) {
            // SAFETY: `record` is an element of an array, written as a whole word.
            unsafe {
                core::ptr::write_volatile(&raw mut (*self.record.as_ptr()).mapping, NO_MAPPING);
            };
        }
        self.forget_if_empty();
    }

    /// Whoever takes the address out of the record, and nobody else, takes it out of the map.
    #[inline(always)]
    fn forget_address(self, address: u64) -> bool {
        if address == 0 {
            return false;
        }
        // SAFETY: `record` is an element of an array.
        let word = unsafe { At::new(&raw mut (*self.record.as_ptr()).address) };
        let is_ours = word.swap_if(address, 0);
        if is_ours {
            _ = SLOT_OF.remove(address);
            records_like(address).add(1_u64.wrapping_neg());
        }
        is_ours
    }

    /// The words of this record.
    #[inline(always)]
    pub fn words(self) -> Words<At> {
        let record = self.record.as_ptr();
        // SAFETY: `record` is an element of an array.
        unsafe {
            Words {
                word: At::new(&raw mut (*record).word),
                owners: At::new(&raw mut (*record).owners),
                unowned: At::new(&raw mut (*record).unowned),
                owed: At::new(&raw mut (*record).owed),
                batch: At::new(&raw mut (*record).batch),
                id: self.id,
            }
        }
    }

    #[inline(always)]
    pub fn get(&self) -> &Inode {
        // SAFETY: `record` is an element of an array; its words change only by atomics.
        unsafe { &*self.record.as_ptr() }
    }

    /// Leases and pins of all owners; 0 if the record is gone.
    #[inline(always)]
    pub fn word(self) -> u64 {
        let word = self.words().word.load();
        if word::is_of(word, books::generation(self.id)) {
            word
        } else {
            0
        }
    }

    /// See [`tagged::owners`].
    #[inline(always)]
    pub fn owners(self) -> u64 {
        tagged::get(self.words().owners, books::generation(self.id))
    }

    /// Gives it the numbers of the inode that was opened, by which its leases are known.
    #[inline(always)]
    pub fn is_opened_as(self, ino: u64, dev: u32) {
        // SAFETY: `record` is an element of an array.
        unsafe {
            (*self.record.as_ptr()).ino = ino;
            (*self.record.as_ptr()).dev = dev;
        }
    }

    /// The batch for folios of this mapping, a pointer to `struct address_space`. It is read before it is
    /// looked whose record it is in: if that becomes another's, there is another batch in it.
    #[inline(always)]
    pub fn batch_of_mapping<P: Pointer>(mapping: P) -> Option<Batch> {
        // SAFETY: a global of this object.
        let slot = unsafe { core::ptr::read_volatile(hint(mapping.low())) };
        let record = in_slot(slot).as_ptr();
        // SAFETY: an element of an array.
        let word = unsafe { At::new(&raw mut (*record).batch) };
        let there = word.load();
        // SAFETY: an element of an array, read as a whole word.
        let known = unsafe { core::ptr::read_volatile(&raw const (*record).mapping) };
        mapping.is(known).then_some(Batch { word, there })
    }

    /// Counts the batch down by `n`; false if it does not reach that far.
    #[inline(always)]
    pub fn drop_by_batch(self, n: u64) -> bool {
        let word = self.words().batch;
        let there = word.load();
        batch::is_of(there, self.id) && Batch { word, there }.drop(n)
    }

    /// The batch, see [`batch`].
    #[inline(always)]
    pub fn batch(self) -> u64 {
        self.words().batch.load()
    }

    /// Lets [`Self::batch_of_mapping`] find the record by the mapping at this address, unless that is 0, or the
    /// inode is not in memory. Another mapping with the same hint is not found any more.
    #[inline(always)]
    pub fn be_found_by(self, mapping: u64) {
        if mapping == 0 || self.is_of(0) {
            return;
        }
        // SAFETY: `record` is an element of an array, the hint a global of this object.
        unsafe {
            let (known, hint) = (
                &raw mut (*self.record.as_ptr()).mapping,
                hint(mapping as u32),
            );
            let slot = u64::from(self.slot);
            // Mostly it is there already, and others read what lies beside it.
            if (known.read_volatile() ^ mapping) | (hint.read_volatile() ^ slot) != 0 {
                known.write_volatile(mapping);
                hint.write_volatile(slot);
            }
        }
    }

    /// Its word, where leases are counted.
    #[inline(always)]
    pub fn of_leases(self) -> Of<At> {
        Of {
            word: self.words().word,
            generation: self.generation(),
        }
    }

    /// Takes one of its leases out of the word.
    #[inline(always)]
    pub fn drop_lease(self) {
        word::unlease(self.words().word);
    }

    /// Gives the slot back and drops the path once neither a lease nor a pin is left.
    #[inline(always)]
    pub fn forget_if_empty(self) {
        if !word::bury(self.words().word, books::generation(self.id)) {
            return;
        }
        Table::Inodes.give_back(self.get().user as u32);
        _ = PATHS.remove(self.id);
        self.forget_address(self.get().address);
        _ = FREE_SLOTS.push(self.slot, 0);
        tracked().add(1_u64.wrapping_neg());
    }
}

/// Stands for no mapping: 0 would be that of a folio which left the page cache.
const NO_MAPPING: u64 = 1;

/// A batch as it was read.
#[derive(Clone, Copy)]
pub struct Batch {
    word: At,
    there: u64,
}

impl Batch {
    /// Counts it down by `n`; false if it does not reach that far, or is not as it was.
    #[inline(always)]
    pub fn drop(self, n: u64) -> bool {
        match batch::less(self.there, n) {
            Some(new) => self.word.swap_if(self.there, new),
            None => false,
        }
    }
}

/// What functions of their own answer where they have no record: it is just being made or deleted, or
/// there is no room.
const AGAIN: i64 = 0;
const NO_ROOM: i64 = -1;
/// The user has his share.
pub const NO_SHARE: i64 = -2;

/// What is counted where one of them answered so to the last: that there is no room, or no end to the wait.
#[inline(always)]
pub const fn no_record(answer: i64, no_room: Count) -> Count {
    match answer {
        AGAIN => Count::LostWait,
        NO_SHARE => Count::LostShares,
        _ => no_room,
    }
}

/// The record in the slot of this number, or of one that has the same lower bits. A mask, since a comparison says
/// nothing to the verifier of 6.1 about a number that the compiler keeps on the stack meanwhile.
#[inline(always)]
fn in_slot(slot: u64) -> NonNull<Inode> {
    let slot = slot & u64::from(constant(&CONFIG.slot_mask));
    let slots = unknown_pointer(&raw mut INODES);
    // SAFETY: a global of this object, which is nowhere at 0.
    unsafe { NonNull::new_unchecked(slots.wrapping_add(slot as usize).cast()) }
}

/// Where the slot of an inode with a batch is noted, by the lower half of its mapping's address.
#[inline(always)]
fn hint(low: u32) -> *mut u64 {
    // Without a shift, which costs one for each page: the lowest bits tell mappings apart little, as parts of
    // inodes, which lie some hundred bytes from each other at least; so there are many hints.
    let offset = low as usize & ((HINTED - 1) * size_of::<u64>());
    // SAFETY: the offset of an element of a global of this object.
    unsafe { (&raw mut HINTS).cast::<u64>().byte_add(offset) }
}

/// How many inodes have a record, or are about to get one, whose addresses are like this one.
#[inline(always)]
fn records_like(address: u64) -> At {
    // Fibonacci hashing: the upper bits of the product are those that all bits of the address went into.
    let index = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SIEVE.ilog2());
    // SAFETY: an element of a global of this object.
    unsafe {
        At::new(
            (&raw mut RECORDS)
                .cast::<u64>()
                .add(index as usize & (SIEVE - 1)),
        )
    }
}

/// Makes a record for the inode at this address: its slot and one, 0 if somebody else was first, below 0 if
/// there is no room. A global function, verified separately: checked once, and its stack is free again
/// for what follows.
#[unsafe(no_mangle)]
extern "C" fn inode_make(address: u64, ino: u64, dev_and_generation: u64) -> i64 {
    let user = share::user(task::uid());
    if !Table::Inodes.take(user) {
        return NO_SHARE;
    }
    let made = inode_make_for(user, address, ino, dev_and_generation);
    if made <= 0 {
        Table::Inodes.give_back(user);
    }
    made
}

/// The same in this user's share.
#[inline(always)]
fn inode_make_for(user: u32, address: u64, ino: u64, dev_and_generation: u64) -> i64 {
    let Some(slot) = take_slot() else {
        return NO_ROOM;
    };
    let made = InodeRef::at(u64::from(slot));
    let id = new_id();
    let generation = books::generation(id);
    // SAFETY: a slot just taken belongs to this program, but for those who hold it for its last inode's:
    // they change nothing, since the words are of another generation. Written in place, to spare the stack.
    unsafe {
        mem::clear(made.record.as_ptr());
        (*made.record.as_ptr()).mapping = NO_MAPPING;
        (*made.record.as_ptr()).address = address;
        (*made.record.as_ptr()).user = u64::from(user);
        (*made.record.as_ptr()).ino = ino;
        (*made.record.as_ptr()).dev = (dev_and_generation >> 32) as u32;
        (*made.record.as_ptr()).generation = dev_and_generation as u32;
        (*made.record.as_ptr()).owners = tagged::fresh(generation);
        (*made.record.as_ptr()).unowned = tagged::fresh(generation);
        (*made.record.as_ptr()).owed = tagged::fresh(generation);
        (*made.record.as_ptr()).id = id;
        core::ptr::write_volatile(
            &raw mut (*made.record.as_ptr()).word,
            word::fresh(generation),
        );
    }
    // Before anybody can find it: with none tracked, releases are not looked at.
    tracked().add(1);
    records_like(address).add(1);
    match SLOT_OF.insert(address, slot, BPF_NOEXIST.into()) {
        Ok(()) => i64::from(slot) + 1,
        Err(error) => {
            records_like(address).add(1_u64.wrapping_neg());
            tracked().add(1_u64.wrapping_neg());
            // SAFETY: as above; nobody has found it.
            unsafe { core::ptr::write_volatile(&raw mut (*made.record.as_ptr()).word, 0) };
            _ = FREE_SLOTS.push(slot, 0);
            if error != EEXIST {
                return NO_ROOM;
            }
            wait_until_settled(address);
            0
        }
    }
}

/// Waits for another processor that is just making or deleting the record of the inode at this address.
#[inline(always)]
fn wait_until_settled(address: u64) {
    wait_until(address, is_settled);
}

unsafe extern "C" fn is_settled(_turn: u64, waiting: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `wait_until` gave it.
    let waiting = unsafe { *waiting.cast::<Waiting<u64>>() };
    let address = waiting.what;
    let Some(slot) = SLOT_OF.get_ptr(address) else {
        return 1;
    };
    // SAFETY: a live map value.
    let found = InodeRef::at(u64::from(unsafe { *slot }));
    let is_settled = found.is_of(address) && found.is_live();
    i64::from(is_settled || !waiting.goes_on())
}

/// A slot never used before, else the one given back longest ago.
#[inline(always)]
fn take_slot() -> Option<u32> {
    let slots = u64::from(constant(&CONFIG.capacity));
    // SAFETY: a global of this object.
    let used = unsafe { word_of(&raw mut USED_SLOTS) };
    if used.load() < slots {
        let slot = used.add(1);
        if slot < slots {
            return Some(slot as u32);
        }
    }
    FREE_SLOTS.pop().ok().flatten()
}

/// What inserting a key that is there already answers.
pub const EEXIST: i32 = -17;

/// An id that no record has, had, or will have, if it is given to none.
#[inline(always)]
pub fn new_id() -> u64 {
    // SAFETY: a global of this object.
    unsafe { word_of(&raw mut LAST_ID) }.add(1) + 1
}
