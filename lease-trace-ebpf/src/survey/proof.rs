//! The proof of an inode's books: what its page cache has pinned is at least what they say. A drop whose hook
//! was missed leaves them too high for ever. What is found too high at several looks, with
//! nothing changed in between, is put right.
//!
//! Drops are counted before they are made, so books that are too high have missed one, but for the moment in
//! which a batch or what is owed is moved from one word to the next; at several looks they would have to be at
//! the same point of that. Books that are too low say nothing: a pin may be on its way, or a short-term one, and
//! 1,024 ordinary references look like one. So these are left as they are.
//!
//! Whoever is about to be judged cannot wait for several looks: then one has to do ([`at_once`]).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_printf;
use lease_trace_common::{
    batch,
    count::Count,
    logged::Logged,
    stake::{Detached, detached_tag, pins},
    tagged,
    word::Word as _,
};

use crate::{
    bpf::loops,
    kernel::{Cached, InodePtr, MapElement},
    state::{
        inodes::InodeRef,
        losses::{logged, lost},
        maps::{detachings, walk_detached},
        stakes::{StakeRef, has_other_owners},
    },
    track::release,
};

/// What became of one inode's proof: see `lease_trace::tracer::proof`.
mod outcome {
    /// The kernel has what the books say.
    pub const RIGHT: u64 = 0;
    /// It has less, or the books have changed meanwhile: to be looked at again.
    pub const DOUBTFUL: u64 = 1;
    /// It had less, and the books say so now.
    pub const CORRECTED: u64 = 2;
    /// What it has cannot be read.
    pub const UNKNOWN: u64 = 3;
}

/// What was found of one inode.
#[repr(C)]
struct Proof {
    /// Of its record, see `InodeRef::number`.
    number: u64,
    /// Pins by the books.
    counted: u64,
    /// Pins by the kernel.
    found: u64,
}

/// The inode of one element of `SLOT_OF`: a line for each that has pins by the books.
#[inline(always)]
pub fn inode(ctx: *const MapElement) {
    let Some(address) = MapElement::key::<u64>(ctx) else {
        return;
    };
    let mut proof = Proof {
        number: loops::zero(),
        counted: loops::zero(),
        found: loops::zero(),
    };
    let outcome = proof_of(address, &raw mut proof) as u64;
    if proof.counted == 0 {
        return;
    }
    if outcome == outcome::DOUBTFUL {
        logged(
            Logged::Doubt,
            proof.counted.saturating_sub(proof.found),
            proof.number,
        );
    }
    if outcome == outcome::CORRECTED {
        logged(
            Logged::Correction,
            proof.counted - proof.found,
            proof.number,
        );
        release::missed(proof.number, proof.counted - proof.found);
    }
    let (seq, _) = MapElement::reader(ctx);
    let (slot, id) = InodeRef::parts_of(proof.number);
    let words = [slot, id, proof.counted, proof.found, outcome];
    let format = c"%llu %llu %llu %llu %llu\n";
    // SAFETY: `seq` is the iterator's own sequence file; the format is a constant with its NUL, and the words
    // are a local.
    unsafe {
        bpf_seq_printf(
            seq.cast(),
            format.as_ptr().cast_mut().cast(),
            format.count_bytes() as u32 + 1,
            words.as_ptr().cast(),
            size_of_val(&words) as u32,
        )
    };
}

/// What the books of an inode say at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Books {
    word: u64,
    owed: u64,
    batch: u64,
    turns: u64,
}

impl Books {
    #[inline(always)]
    fn of(inode: InodeRef) -> Self {
        let words = inode.words();
        Self {
            word: inode.word(),
            owed: tagged::get(words.owed, inode.generation()),
            batch: words.batch.load(),
            turns: inode.turns().load(),
        }
    }

    /// All of it and a number in one word, to be compared with itself.
    #[inline(always)]
    fn mixed_with(self, found: u64) -> u64 {
        self.word ^ self.owed.rotate_left(16) ^ self.batch.rotate_left(32) ^ found.rotate_left(48)
    }

    /// These are to be corrected, by whoever is first to say so, and if no pins were counted since they were
    /// read: then what is taken out are pins that they had.
    #[inline(always)]
    fn are_claimed(self, inode: InodeRef) -> bool {
        inode.turns().swap_if(self.turns, self.turns + 1)
    }

    /// The pins that they say there are.
    #[inline(always)]
    fn pins(self) -> u64 {
        let dropped = self.owed + batch::dropped(self.batch);
        pins(self.word).saturating_sub(dropped)
    }
}

/// Looks once; what is to be corrected is up to the caller. A global function, verified separately, and its
/// stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proof_of(address: u64, proof: *mut Proof) -> i64 {
    // SAFETY: `inode` passes a reference, or the verifier a null pointer.
    let (Some(proof), Some(inode)) = (unsafe { proof.as_mut() }, InodeRef::find(address)) else {
        return outcome::RIGHT as i64;
    };
    let books = Books::of(inode);
    let counted = books.pins();
    proof.number = inode.number();
    proof.counted = counted;
    if counted == 0 {
        inode.trust();
        return outcome::RIGHT as i64;
    }
    let mut found = match InodePtr(address).cached_pins(counted) {
        Cached::Pins(cached) => cached,
        Cached::Torn => return outcome::UNKNOWN as i64,
        Cached::Unknown => {
            inode.trust();
            return outcome::UNKNOWN as i64;
        }
    };
    if found < counted {
        found += proof_detached(inode.number(), address) as u64;
    }
    proof.found = found;
    if found >= counted {
        // Some of those found may be a transfer's, and counted as an owner's.
        if inode.ambiguous() == 0 {
            inode.trust();
        }
        return outcome::RIGHT as i64;
    }
    if books != Books::of(inode) {
        return outcome::DOUBTFUL as i64;
    }
    if inode.doubt_has_lasted(books.mixed_with(found)) && books.are_claimed(inode) {
        outcome::CORRECTED as i64
    } else {
        outcome::DOUBTFUL as i64
    }
}

/// What is found of a process's pins in an inode, for whoever is about to judge it by them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AtOnce {
    /// Nothing is pinned in the inode, and this many pins are counted: they are the caller's to [`take_out`], and
    /// nobody else's.
    Nothing(u64),
    /// Those that it is said to have may be another's, who has fewer than he is said to have.
    Doubtful,
    /// It has at least as many as this; `u64::MAX`: what can be seen says nothing against any of them.
    AtLeast(u64),
}

/// Looks at once at what an inode has pinned, in its page cache and on folios that left it. If fewer are there than were
/// counted, or some are owed, the process may be the one who has fewer; what it has all the same is certain.
#[inline(always)]
pub fn at_once(inode: InodeRef, tgid: u32) -> AtOnce {
    /// Looks while others change the books, or the page cache; after that it is doubtful.
    const TURNS: u32 = 3;
    let mut proof = Proof {
        number: inode.number(),
        counted: loops::zero(),
        found: loops::zero(),
    };
    let mut seen = looked::CHANGED;
    for _ in 0..TURNS {
        if seen == looked::CHANGED {
            seen = proof_at_once(u64::from(tgid), &raw mut proof) as u64;
        }
    }
    if seen == looked::NOTHING {
        AtOnce::Nothing(proof.counted)
    } else if seen == looked::SEEN {
        AtOnce::AtLeast(proof.found)
    } else {
        inode.mark_doubtful();
        logged(Logged::Uncertain, proof.counted, proof.number);
        AtOnce::Doubtful
    }
}

/// Takes out of the books of the inode with this number what [`at_once`] has found gone.
#[inline(always)]
pub fn take_out(number: u64, counted: u64) {
    lost(Count::Healed, counted, number);
    release::missed(number, counted);
}

/// See [`AtOnce`].
mod looked {
    pub const SEEN: u64 = 0;
    pub const DOUBTFUL: u64 = 1;
    pub const NOTHING: u64 = 2;
    /// The books, or the page cache, have changed meanwhile.
    pub const CHANGED: u64 = 3;
}

/// In `proof` it leaves what is counted of the inode, and how many pins of the process are certain. A global
/// function, verified separately, and its stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proof_at_once(tgid: u64, proof: *mut Proof) -> i64 {
    // SAFETY: `at_once` passes a reference, or the verifier a null pointer.
    let Some(proof) = (unsafe { proof.as_mut() }) else {
        return looked::DOUBTFUL as i64;
    };
    proof.found = u64::MAX;
    let Some(inode) = InodeRef::find_number(proof.number) else {
        return looked::SEEN as i64;
    };
    let books = Books::of(inode);
    proof.counted = books.pins();
    let address = inode.get().address;
    let cached = match InodePtr(address).cached_pins(proof.counted) {
        Cached::Pins(cached) => cached,
        Cached::Torn => return looked::CHANGED as i64,
        // By the books alone.
        Cached::Unknown => proof.counted,
    };
    let mut found = cached;
    if found < proof.counted {
        found += proof_detached(proof.number, address) as u64;
    }
    let is_alone = !has_other_owners(inode, tgid as u32);
    let missing = proof.counted.saturating_sub(found);
    // What is owed is some other's than it is counted with, or on its way to the only one.
    let missing = if is_alone {
        missing
    } else {
        missing + books.owed
    };
    let ambiguous = inode.ambiguous();
    if missing + ambiguous == 0 {
        return looked::SEEN as i64;
    }
    if books != Books::of(inode) {
        // Nobody but the process itself has changed what it has.
        return if is_alone && ambiguous == 0 {
            looked::SEEN
        } else {
            looked::CHANGED
        } as i64;
    }
    if found == 0 && !(is_alone && books.owed != 0) && books.are_claimed(inode) {
        inode.trust();
        return looked::NOTHING as i64;
    }
    let his = StakeRef::find(tgid as u32, inode.id).map_or(0, StakeRef::pins);
    proof.found = his.saturating_sub(missing + ambiguous);
    if proof.found == 0 {
        looked::DOUBTFUL as i64
    } else {
        looked::SEEN as i64
    }
}

/// Pins of this inode on folios that left its page cache, by the books. A global function, verified separately,
/// and because it is rarely called: the walk goes over all buckets of the map.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proof_detached(number: u64, address: u64) -> i64 {
    if detachings().load() == 0 {
        return 0;
    }
    let mut sum = Sum {
        number,
        address,
        pins: loops::zero(),
    };
    walk_detached(add_one, &mut sum);
    sum.pins as i64
}

struct Sum {
    /// The record's, see `InodeRef::number`.
    number: u64,
    /// The inode's.
    address: u64,
    pins: u64,
}

/// As a release finds out whose such a folio's pins are (`track::release`): those of the record of then, or where
/// that is no more, of the one that the inode has now.
unsafe extern "C" fn add_one(
    _map: *mut c_void,
    folio: *mut u64,
    detached: *mut Detached,
    sum: *mut Sum,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `proof_detached` gave it.
    let (folio, detached, sum) = unsafe { (*folio, &*detached, &mut *sum) };
    let number = InodeRef::number_of(detached.slot, detached.inode_id);
    let is_of_record = number == sum.number;
    let is_of_inode = detached.inode == sum.address
        && InodeRef::find_number(number).is_none_or(|record| record.word() == 0);
    if is_of_record || is_of_inode {
        let there = tagged::value(detached.pins, detached_tag(folio)).unwrap_or(0);
        let pins = sum.pins + there;
        loops::keep(&mut sum.pins, pins);
    }
    0
}
