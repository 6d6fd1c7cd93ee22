//! What the books say of an inode, read once.

use lease_trace_common::{batch, stake::pins, tagged, word::Word as _};

use super::inodes::InodeRef;

/// The three words that the number of its pins is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    word: u64,
    owed: u64,
    batch: u64,
}

impl Reading {
    #[inline(always)]
    pub fn of(inode: InodeRef) -> Self {
        let words = inode.words();
        Self {
            word: inode.word(),
            owed: tagged::get(words.owed, inode.generation()),
            batch: words.batch.load(),
        }
    }

    /// All of it and a number in one word, to be compared with itself.
    #[inline(always)]
    pub fn mixed_with(self, found: u64) -> u64 {
        self.word ^ self.owed.rotate_left(16) ^ self.batch.rotate_left(32) ^ found.rotate_left(48)
    }

    /// The pins that there are: those counted, but for drops that no owner was credited with so far.
    #[inline(always)]
    pub fn pins(self) -> u64 {
        let dropped = self.owed + batch::dropped(self.batch);
        pins(self.word).saturating_sub(dropped)
    }
}
