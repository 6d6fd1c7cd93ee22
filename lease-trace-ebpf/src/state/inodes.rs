//! The records of inodes: found, made, changed and dropped. All atomics on their words are here.

use aya_ebpf::bindings::BPF_NOEXIST;
use lease_trace_common::{
    count::Count,
    stake::{self, DEAD, Inode, LEASE, PIN, pins, sole_owner},
};

use crate::{
    bpf::atomic,
    bpf::mem,
    kernel::current,
    kernel::{self, InodePtr, Pointer},
    state::calls,
    state::maps::{
        CONFIG, FREE_SLOTS, HINTED, HINTS, INODES, LAST, LAST_ID, PATHS, PINNED, SLOT_OF, TRACKED,
        USED_SLOTS, count,
    },
};

/// A slot's number has so many bits: `--capacity` asks for 1,048,576 at most.
pub const SLOT_BITS: u32 = 20;

/// How often a record that is just being deleted is looked up again.
pub const TRIES: u32 = 2;

/// A live inode record and its slot.
#[derive(Clone, Copy)]
pub struct InodeRef {
    pub slot: u32,
    record: *mut Inode,
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
        let found = Self::at(slot)?;
        // SAFETY: `record` is a live map value; LAST is a global of this object.
        unsafe {
            if (*found.record).address != address {
                return None;
            }
            core::ptr::write_volatile(&raw mut LAST, found.number());
        }
        Some(found)
    }

    /// The record that was found last, by whomever, if it is that of the inode at this address: events
    /// mostly come in runs, and this spares the look-up.
    #[inline(always)]
    fn last(inode: u64) -> Option<Self> {
        // SAFETY: a global of this object.
        let last = unsafe { atomic::load(&raw const LAST) };
        let found = Self::find_number(last)?;
        // SAFETY: `record` is a live map value.
        let address = unsafe { (*found.record).address };
        if address == inode && found.word() & DEAD == 0 {
            Some(found)
        } else {
            None
        }
    }

    /// Id and slot in one word.
    #[inline(always)]
    fn number(self) -> u64 {
        self.get().id << SLOT_BITS | u64::from(self.slot)
    }

    /// The record that [`Self::number`] names.
    #[inline(always)]
    pub fn find_number(number: u64) -> Option<Self> {
        Self::find_slot(number & ((1 << SLOT_BITS) - 1), number >> SLOT_BITS)
    }

    /// The record in a slot if it still is that of the inode with this id.
    #[inline(always)]
    pub fn find_slot(slot: u64, id: u64) -> Option<Self> {
        let found = Self::at(slot as u32)?;
        // SAFETY: `record` is a live map value.
        if unsafe { (*found.record).id } == id {
            Some(found)
        } else {
            None
        }
    }

    #[inline(always)]
    fn at(slot: u32) -> Option<Self> {
        let record = INODES.get_ptr_mut(slot)?;
        Some(Self { slot, record })
    }

    /// The inode's record, made if there is none, with `n` added to its word.
    #[inline(always)]
    pub fn add(inode: InodePtr, n: u64) -> Option<Self> {
        for _ in 0..TRIES {
            let found = match Self::find(inode.0) {
                Some(found) => found,
                None => match inode_make(inode.0) {
                    0 => continue,
                    made if made < 0 => break,
                    made => Self::at(made as u32 - 1)?,
                },
            };
            // SAFETY: a live map value.
            let old = unsafe { atomic::add(found.word_ptr(), n) };
            if old & DEAD == 0 {
                if pins(old) == 0 && pins(n) > 0 {
                    // SAFETY: a global of this object.
                    unsafe { atomic::add(&raw mut PINNED, 1) };
                }
                return Some(found);
            }
        }
        count(Count::LostInodes, 1);
        None
    }

    /// The inode is being destroyed: only its slot leads to the record from now on. In this order, since
    /// whoever gives an allowance looks at the address after it has set the mapping.
    #[inline(always)]
    pub fn evicted(self) {
        // SAFETY: `record` is a live map value.
        unsafe {
            core::ptr::write_volatile(&raw mut (*self.record).address, 0);
            core::ptr::write_volatile(&raw mut (*self.record).mapping, 0);
        }
        self.forget_if_empty();
    }

    #[inline(always)]
    fn word_ptr(self) -> *mut u64 {
        // SAFETY: `record` is a live map value.
        unsafe { &raw mut (*self.record).word }
    }

    #[inline(always)]
    pub fn get(&self) -> &Inode {
        // SAFETY: `record` is a live map value; its words change only by atomics.
        unsafe { &*self.record }
    }

    /// Leases and pins of all owners.
    #[inline(always)]
    pub fn word(self) -> u64 {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::load(self.word_ptr()) }
    }

    #[inline(always)]
    pub fn owners(self) -> u64 {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::load(&raw const (*self.record).owners) }
    }

    #[inline(always)]
    pub fn owners_ptr(self) -> *mut u64 {
        // SAFETY: `record` is a live map value.
        unsafe { &raw mut (*self.record).owners }
    }

    /// Gives it the numbers of the inode that was opened, by which its leases are known.
    #[inline(always)]
    pub fn is_opened_as(self, inode: InodePtr) {
        // SAFETY: `record` is a live map value.
        unsafe {
            (*self.record).ino = inode.number();
            (*self.record).dev = inode.device();
        }
    }

    /// The current process wants a lease on the file broken.
    #[inline(always)]
    pub fn set_breaker(self) {
        // SAFETY: `record` is a live map value.
        unsafe { (*self.record).breaker = current::describe() };
    }

    /// Counts short-term pins that joined long-term ones.
    #[inline(always)]
    pub fn add_short_term(self, n: u64) {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::add(&raw mut (*self.record).short_term, n) };
    }

    /// Takes up to `n` short-term pins out of the count; returns how many.
    #[inline(always)]
    pub fn take_short_term(self, n: u64) -> u64 {
        // SAFETY: `record` is a live map value.
        let there = unsafe { atomic::load(&raw const (*self.record).short_term) };
        // A count below zero (two CPUs took the same) reads as a huge number: none are left.
        if there == 0 || there > i64::MAX as u64 {
            return 0;
        }
        let taken = if there < n { there } else { n };
        // SAFETY: `record` is a live map value.
        unsafe { atomic::sub(&raw mut (*self.record).short_term, taken) };
        taken
    }

    #[inline(always)]
    pub fn add_unattributed(self, n: u64) {
        count(Count::Unattributed, n);
        // SAFETY: `record` is a live map value.
        unsafe { atomic::add(&raw mut (*self.record).unattributed, n) };
    }

    /// Adds to the word without making a record.
    #[inline(always)]
    pub fn raise(self, n: u64) {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::add(self.word_ptr(), n) };
    }

    /// Takes pins out of the word and returns how many of all owners are left.
    #[inline(always)]
    pub fn drop_pins(self, n: u64) -> u64 {
        // SAFETY: `record` is a live map value.
        let old = unsafe { atomic::sub(self.word_ptr(), n * PIN) };
        let had = pins(old);
        if had > 0 && had <= n {
            // SAFETY: a global of this object.
            unsafe { atomic::sub(&raw mut PINNED, 1) };
        }
        if had < n {
            self.raise((n - had) * PIN);
            return 0;
        }
        had - n
    }

    /// The record whose allowance is for folios of this mapping, a pointer to `struct address_space`.
    #[inline(always)]
    pub fn of_mapping<P: Pointer>(mapping: P) -> Option<Self> {
        // SAFETY: a global of this object.
        let slot = unsafe { atomic::load(hint(mapping.low())) };
        let found = Self::at(slot as u32)?;
        // SAFETY: `record` is a live map value.
        let known = unsafe { atomic::load(&raw const (*found.record).mapping) };
        mapping.is(known).then_some(found)
    }

    /// Drops `n` pins by the record's allowance; false if it does not reach that far, or if they may be the
    /// kernel's own retries (a pin call of this thread is under way).
    #[inline(always)]
    pub fn spend(self, n: u64) -> bool {
        if calls::under_way() {
            return false;
        }
        let allowance = self.allowance();
        match stake::spend(allowance, n) {
            // SAFETY: `record` is a live map value.
            Some(new) => unsafe {
                atomic::swap_if(&raw mut (*self.record).allowance, allowance, new)
            },
            None => false,
        }
    }

    /// The allowance, see `stake::allowance`.
    #[inline(always)]
    pub fn allowance(self) -> u64 {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::load(&raw const (*self.record).allowance) }
    }

    /// The same, and there is none any more.
    #[inline(always)]
    pub fn take_allowance(self) -> u64 {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::swap(&raw mut (*self.record).allowance, 0) }
    }

    /// Whose allowance it can be: that of the only owner, if no pins are of unknown term, and the inode is in
    /// memory.
    #[inline(always)]
    pub fn entitled(self) -> Option<u32> {
        // SAFETY: `record` is a live map value.
        let (short_term, address) = unsafe {
            (
                atomic::load(&raw const (*self.record).short_term),
                atomic::load(&raw const (*self.record).address),
            )
        };
        if short_term != 0 || address == 0 {
            return None;
        }
        sole_owner(self.owners())
    }

    /// Gives it an allowance, for the folios of the mapping at this address (0: of whichever is known); false
    /// if it has one.
    #[inline(always)]
    pub fn set_allowance(self, allowance: u64, mapping: u64) -> bool {
        self.be_found_by(mapping);
        // SAFETY: `record` is a live map value.
        unsafe { atomic::swap_if(&raw mut (*self.record).allowance, 0, allowance) }
    }

    /// Lets [`Self::of_mapping`] find the record by the mapping at this address, unless that is 0. Another
    /// mapping with the same hint is not found any more.
    #[inline(always)]
    pub fn be_found_by(self, mapping: u64) {
        if mapping == 0 {
            return;
        }
        // SAFETY: `record` is a live map value, the hint a global of this object.
        unsafe {
            (*self.record).mapping = mapping;
            core::ptr::write_volatile(hint(mapping as u32), u64::from(self.slot));
        }
    }

    /// Takes a lease out of the word.
    #[inline(always)]
    pub fn drop_lease(self) {
        // SAFETY: `record` is a live map value.
        unsafe { atomic::sub(self.word_ptr(), LEASE) };
    }

    /// Gives the slot back and drops the path once neither a lease nor a pin is left.
    #[inline(always)]
    pub fn forget_if_empty(self) {
        if self.word() != 0 {
            return;
        }
        let Inode { id, address, .. } = *self.get();
        // SAFETY: `record` is a live map value.
        if unsafe { atomic::swap_if(self.word_ptr(), 0, DEAD) } {
            _ = PATHS.remove(id);
            if address != 0 {
                _ = SLOT_OF.remove(address);
            }
            _ = FREE_SLOTS.push(self.slot, 0);
            // SAFETY: a global of this object.
            unsafe { atomic::sub(&raw mut TRACKED, 1) };
        }
    }
}

/// Where the slot of an inode with an allowance is noted, by the lower half of its mapping's address.
#[inline(always)]
fn hint(low: u32) -> *mut u64 {
    // Without a shift, which costs one for each page: the lowest bits tell mappings apart little, as parts of
    // inodes, which lie some hundred bytes from each other at least; so there are many hints.
    let offset = low as usize & ((HINTED - 1) * size_of::<u64>());
    // SAFETY: the offset of an element of a global of this object.
    unsafe { (&raw mut HINTS).cast::<u64>().byte_add(offset) }
}

/// Makes a record for the inode at this address: its slot and one, 0 if somebody else was first, -1 if
/// there is no room. A function of its own for the verifier: checked once, and its stack is free again
/// for what follows.
#[unsafe(no_mangle)]
extern "C" fn inode_make(address: u64) -> i64 {
    let inode = InodePtr(address);
    let Some(slot) = take_slot() else { return -1 };
    let Some(made) = InodeRef::at(slot) else {
        return -1;
    };
    // SAFETY: a slot just taken belongs to this program. Written in place, to spare the stack.
    unsafe {
        mem::clear(made.record);
        (*made.record).address = address;
        (*made.record).ino = inode.number();
        (*made.record).dev = inode.device();
        (*made.record).generation = inode.generation();
        (*made.record).id = next_id();
    }
    match SLOT_OF.insert(address, slot, BPF_NOEXIST.into()) {
        Ok(()) => {
            // SAFETY: a global of this object.
            unsafe { atomic::add(&raw mut TRACKED, 1) };
            i64::from(slot) + 1
        }
        Err(error) => {
            _ = FREE_SLOTS.push(slot, 0);
            if error == EEXIST { 0 } else { -1 }
        }
    }
}

/// A slot never used before, else the one given back longest ago.
#[inline(always)]
fn take_slot() -> Option<u32> {
    let slots = u64::from(kernel::constant(&CONFIG.capacity));
    // SAFETY: globals of this object.
    unsafe {
        if atomic::load(&raw const USED_SLOTS) < slots {
            let slot = atomic::add(&raw mut USED_SLOTS, 1);
            if slot < slots {
                return Some(slot as u32);
            }
        }
    }
    FREE_SLOTS.pop().ok().flatten()
}

/// What inserting a key that is there already answers.
pub const EEXIST: i32 = -17;

#[inline(always)]
fn next_id() -> u64 {
    // SAFETY: a global of this object.
    unsafe { atomic::add(&raw mut LAST_ID, 1) + 1 }
}
