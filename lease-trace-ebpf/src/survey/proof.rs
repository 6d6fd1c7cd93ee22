//! The proof of an inode's books: what its page cache has pinned is what they should say. A hook that was
//! passed without its program leaves them wrong for ever, and so do pins that are older than the tool. What is
//! found wrong twice, with nothing changed in between, is put right.
//!
//! Too few pins are not put right where rules are in force: 1,024 ordinary references look like a pin of a small
//! folio, and whoever may read a file can have so many. Counted as nobody's they would be what its owner drops
//! first, and he would be refused for what he still seems to have.
//!
//! Pins are taken before they are counted, and counted out before they are dropped. So the books say too much
//! only if a drop was missed, and too little if a pin was missed, is older, or is on its way. A short-term pin
//! on a file that had no long-term ones is on its way for as long as its I/O takes.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_printf;
use lease_trace_common::{
    batch,
    stake::{Detached, pins},
    tagged,
    word::Word as _,
};

use crate::{
    bpf::loops,
    kernel::{InodePtr, MapElement},
    state::{
        inodes::InodeRef,
        maps::{detachings, pinning, walk_detached},
        policy,
    },
    track::{release, short_term},
};

/// What became of one inode's proof: see `lease_trace::tracer::proof`.
mod outcome {
    /// The books say what there is.
    pub const RIGHT: u64 = 0;
    /// They do not, for the first time or with something changed since the last time.
    pub const WRONG: u64 = 1;
    /// They did not, and do now.
    pub const CORRECTED: u64 = 2;
    /// They changed meanwhile, or a call that pins is under way.
    pub const BUSY: u64 = 3;
    /// What there is cannot be read.
    pub const UNKNOWN: u64 = 4;
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

/// The inode of one element of `SLOT_OF`: a line for each whose books are not right, or not known to be.
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
    match outcome {
        outcome::RIGHT => return,
        outcome::CORRECTED if proof.found < proof.counted => {
            release::missed(proof.number, proof.counted - proof.found);
        }
        outcome::CORRECTED => short_term::missed(address, proof.found - proof.counted),
        _ => {}
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
}

impl Books {
    #[inline(always)]
    fn of(inode: InodeRef) -> Self {
        let words = inode.words();
        Self {
            word: inode.word(),
            owed: tagged::get(words.owed, inode.generation()),
            batch: words.batch.load(),
        }
    }

    /// The pins that they say there are.
    #[inline(always)]
    fn pins(self) -> u64 {
        let dropped = self.owed + batch::dropped(self.batch);
        pins(self.word).saturating_sub(dropped)
    }
}

/// Looks once; what is to be corrected is up to the caller. A function of its own for the verifier, and its
/// stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proof_of(address: u64, proof: *mut Proof) -> i64 {
    // SAFETY: `inode` passes a reference, or the verifier a null pointer.
    let (Some(proof), Some(inode)) = (unsafe { proof.as_mut() }, InodeRef::find(address)) else {
        return outcome::RIGHT as i64;
    };
    let books = Books::of(inode);
    proof.number = inode.number();
    proof.counted = books.pins();
    let Some(cached) = InodePtr(address).cached_pins() else {
        return outcome::UNKNOWN as i64;
    };
    let found = cached + proof_detached(inode.number()) as u64;
    proof.found = found;
    let is_steady = books == Books::of(inode);
    if is_steady && found == books.pins() {
        return outcome::RIGHT as i64;
    }
    let is_more = found > books.pins();
    if !is_steady || is_more && pinning().load() != 0 {
        return outcome::BUSY as i64;
    }
    if is_more && policy::header().rules() > 0 || !inode.doubts_again(books.word, found) {
        return outcome::WRONG as i64;
    }
    outcome::CORRECTED as i64
}

/// Pins of this inode on folios that left its page cache, by the books. A function of its own for the verifier,
/// and because there are mostly none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn proof_detached(number: u64) -> i64 {
    if detachings().load() == 0 {
        return 0;
    }
    let mut sum = Sum {
        number,
        pins: loops::zero(),
    };
    walk_detached(add_one, &mut sum);
    sum.pins as i64
}

struct Sum {
    /// The record's, see `InodeRef::number`.
    number: u64,
    pins: u64,
}

unsafe extern "C" fn add_one(
    _map: *mut c_void,
    folio: *mut u64,
    detached: *mut Detached,
    sum: *mut Sum,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `proof_detached` gave it.
    unsafe {
        let detached = &*detached;
        if InodeRef::number_of(detached.slot, detached.inode_id) == (*sum).number {
            let tag = lease_trace_common::stake::detached_tag(*folio);
            let pins = (*sum).pins + tagged::value(detached.pins, tag).unwrap_or(0);
            loops::keep(&mut (*sum).pins, pins);
        }
    }
    0
}
