//! Changes of words that are tried again while others are faster.

use lease_trace_common::{
    batch,
    count::Count,
    tagged::{self, owners},
    word::{self, BUSY, Change, Word, again},
};

use crate::{bpf::atomic::At, state::losses::lost};

impl Word for At {
    const TRIES: u64 = 1;

    #[inline(always)]
    fn load(self) -> u64 {
        self.in_place::<1>().load()
    }

    #[inline(always)]
    fn swap_if(self, old: u64, new: u64) -> bool {
        self.in_place::<1>().swap_if(old, new)
    }

    #[inline(always)]
    fn add(self, n: u64) -> u64 {
        self.in_place::<1>().add(n)
    }

    #[inline(always)]
    fn unknown(self, n: u64) -> u64 {
        self.in_place::<1>().unknown(n)
    }

    #[inline(always)]
    fn opaque(self, n: u64) -> u64 {
        self.in_place::<1>().opaque(n)
    }

    #[inline(always)]
    fn pin(self, generation: u64, n: u64) -> Change {
        Change(word_pin(self.pointer(), generation, n) as u64)
    }

    #[inline(always)]
    fn pin_inode(self, generation: u64, n: u64) -> Change {
        Change(word_pin_inode(self.pointer(), generation, n) as u64)
    }

    #[inline(always)]
    fn unpin(self, generation: u64, n: u64) -> Change {
        Change(word_unpin(self.pointer(), generation, n) as u64)
    }

    #[inline(always)]
    fn told(self, generation: u64) -> Change {
        Change(word_told(self.pointer(), generation) as u64)
    }

    #[inline(always)]
    fn lease(self, generation: u64) -> Change {
        Change(word_lease(self.pointer(), generation) as u64)
    }

    #[inline(always)]
    fn lease_end(self, generation: u64) -> Change {
        Change(word_lease_end(self.pointer(), generation) as u64)
    }

    #[inline(always)]
    fn count_up(self, generation: u64, n: u64, most: u64) -> u64 {
        word_count_up(self.pointer(), generation, n, most) as u64 & !BUSY
    }

    #[inline(always)]
    fn count_down(self, generation: u64, n: u64) -> u64 {
        word_count_down(self.pointer(), generation, n) as u64 & !BUSY
    }

    #[inline(always)]
    fn change_owners(self, generation: u64, number: u64, tgid: u64) -> u64 {
        word_change_owners(self.pointer(), generation, number, tgid) as u64 & !BUSY
    }

    #[inline(always)]
    fn close_batch(self, inode_id: u64) -> u64 {
        match word_close_batch(self.pointer(), inode_id) as u64 {
            BUSY => 0,
            closed => closed,
        }
    }
}

/// How often a change is tried that others were faster with. Each failure is somebody else's success; of sixteen
/// processors at one file one change in 400,000 meets so many (docs/cost.md, "Many processors at one file"). One that
/// is given up is a loss. Each turn more is walked by the verifier in every program.
const TRIES: u64 = 12;

/// Global functions, verified separately: what tries a change is checked once in a program, not at each
/// place where such a change is made, and not once for each turn.
macro_rules! verified_once {
    ($($name:ident, $once:ident($($parameter:ident),*) = |$word:ident| $body:expr;)*) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(word: *mut u64, $($parameter: u64),*) -> i64 {
            let mut left = TRIES;
            loop {
                let made = $once(word, $($parameter),*);
                if made as u64 != BUSY {
                    return made;
                }
                if !again(&mut left) {
                    lost(Count::LostWait, 1, 0);
                    return made;
                }
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $once(word: *mut u64, $($parameter: u64),*) -> i64 {
            if word.is_null() {
                return 0;
            }
            // SAFETY: whoever calls it has it from an `At`.
            let $word = unsafe { At::new(word) }.in_place::<1>();
            $body
        }
    )*};
}

verified_once! {
    word_pin, word_pin_once(generation, n) = |word| word::pin(word, generation, n).0 as i64;
    word_pin_inode, word_pin_inode_once(generation, n) = |word| word::pin_inode(word, generation, n).0 as i64;
    word_unpin, word_unpin_once(generation, n) = |word| word::unpin(word, generation, n).0 as i64;
    word_told, word_told_once(generation) = |word| word::told(word, generation).0 as i64;
    word_lease, word_lease_once(generation) = |word| word::lease(word, generation).0 as i64;
    word_lease_end, word_lease_end_once(generation) = |word| word::lease_end(word, generation).0 as i64;
    word_count_up, word_count_up_once(generation, n, most) = |word| tagged::add(word, generation, n, most) as i64;
    word_count_down, word_count_down_once(generation, n) = |word| tagged::take(word, generation, n) as i64;
    word_change_owners, word_change_owners_once(generation, number, tgid) = |word| owners::change(word, generation, number, tgid) as i64;
    word_close_batch, word_close_batch_once(inode_id) = |word| batch::close(word, inode_id) as i64;
}
