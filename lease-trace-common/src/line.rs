//! Memory laid out by who writes it.

use core::ops::Deref;

/// Bytes of a cache line (`L1_CACHE_BYTES` of x86-64 and arm64).
pub const BYTES: usize = 64;

/// A word in a cache line of its own: whoever reads what lies beside it does not wait for those who write it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    word: u64,
    rest: [u64; BYTES / 8 - 1],
}

const _: () = assert!(size_of::<Line>() == BYTES && align_of::<Line>() == BYTES);

impl Line {
    pub const fn new(word: u64) -> Self {
        Self {
            word,
            rest: [0; BYTES / 8 - 1],
        }
    }
}

impl Deref for Line {
    type Target = u64;

    #[inline(always)]
    fn deref(&self) -> &u64 {
        &self.word
    }
}

crate::pod!(Line);
