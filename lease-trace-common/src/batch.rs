//! The batch of a sole owner. The only owner of pins in an inode drops them one by one, and to find its
//! stake each time would cost more than all the rest. So an inode's record has a batch: so many pins may
//! be dropped by counting it down, and nothing else is touched. What was dropped by it is taken from the
//! stake and from the inode together when the batch is closed: when it is used up, before anybody else
//! has pins, and before anything is judged by how many there are.
//!
//! A batch is one word: what is left, what was given, whose pins they are, and the lower bits of the
//! inode's id, so that it is never taken for one of the slot's next inode. 0 is none.

use crate::word::{BUSY, PIN, Word, again, pins};

// ```text
//  63        42 41       20 19      10 9        0
// +------------+-----------+----------+----------+
// | inode's id |   owner   |  given   |   left   |
// +------------+-----------+----------+----------+
// ```
const GIVEN_SHIFT: u32 = 10;
const OWNER_SHIFT: u32 = 20;
const INODE_SHIFT: u32 = 42;
const OWNER: u64 = (1 << (INODE_SHIFT - OWNER_SHIFT)) - 1;

/// Thread group ids are below that (include/linux/threads.h, `PID_MAX_LIMIT`).
const _: () = assert!(OWNER + 1 == 4 << 20);

/// The most pins of a batch, so that what a stake counts is never far from what there is.
pub const MOST: u64 = (1 << GIVEN_SHIFT) - 1;

/// A batch of `n` pins of this process in the inode with this id.
#[inline(always)]
pub const fn new(inode_id: u64, tgid: u32, n: u64) -> u64 {
    inode_id << INODE_SHIFT | (tgid as u64) << OWNER_SHIFT | n << GIVEN_SHIFT | n
}

/// One with `n` pins less; `None` if so many are not left.
#[inline(always)]
pub const fn less(batch: u64, n: u64) -> Option<u64> {
    if batch & MOST < n {
        None
    } else {
        Some(batch - n)
    }
}

/// How many pins were dropped by it.
#[inline(always)]
pub const fn dropped(batch: u64) -> u64 {
    (batch >> GIVEN_SHIFT & MOST) - (batch & MOST)
}

/// Whose they are.
#[inline(always)]
pub const fn owner(batch: u64) -> u32 {
    (batch >> OWNER_SHIFT & OWNER) as u32
}

/// Whether it is one of the inode with this id.
#[inline(always)]
pub const fn is_of(batch: u64, inode_id: u64) -> bool {
    batch != 0 && batch >> INODE_SHIFT == inode_id & (u64::MAX >> INODE_SHIFT)
}

/// The pins in a stake's word but for those that were dropped by a batch of its owner's.
#[inline(always)]
pub const fn net(word: u64, tgid: u32, batch: u64) -> u64 {
    if batch == 0 || owner(batch) != tgid || dropped(batch) > pins(word) {
        return word;
    }
    word - dropped(batch) * PIN
}

/// Closes the batch of this inode: there is none any more. Returns it, 0 if there was none, or
/// [`BUSY`], which no batch is: it gives pins.
#[inline(always)]
pub fn close<W: Word>(batch: W, inode_id: u64) -> u64 {
    let mut left = W::TRIES;
    loop {
        let there = batch.load();
        if !is_of(there, inode_id) {
            return 0;
        }
        if batch.swap_if(there, 0) {
            return there;
        }
        if !again(&mut left) {
            return BUSY;
        }
    }
}
