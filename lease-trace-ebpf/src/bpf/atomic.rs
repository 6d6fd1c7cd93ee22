//! The atomic operations of BPF (`-C target-cpu=v3`), which `core`'s atomic types do not offer on
//! this target.

use core::{
    arch::asm,
    intrinsics::{self, AtomicOrdering},
};

use lease_trace_common::{
    batch,
    tagged::{self, owners},
    word::{self, BUSY, Change, Word, again},
};

use crate::bpf::loops;

/// A word of a map or of a global.
#[derive(Clone, Copy)]
pub struct At(*mut u64);

impl At {
    /// # Safety
    /// `word` points to a map value or a global, aligned, and is used within this run of the program
    /// only: so long the kernel keeps the memory, though it may become another record's.
    #[inline(always)]
    pub const unsafe fn new(word: *mut u64) -> Self {
        Self(word)
    }

    /// See [`InPlace`].
    #[inline(always)]
    pub const fn in_place<const TRIES: u64>(self) -> InPlace<TRIES> {
        InPlace(self.0)
    }
}

impl Word for At {
    const TRIES: u64 = 1;

    /// The compiler may not tear or repeat it.
    #[inline(always)]
    fn load(self) -> u64 {
        // SAFETY: `new` guarantees the pointer.
        unsafe { core::ptr::read_volatile(self.0) }
    }

    /// `BPF_ATOMIC | BPF_CMPXCHG`.
    #[inline(always)]
    fn swap_if(self, old: u64, new: u64) -> bool {
        // SAFETY: `new` guarantees the pointer.
        let (found, _) = unsafe {
            intrinsics::atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                self.0, old, new,
            )
        };
        // Else the compiler makes a number of whether it was swapped, to be compared again.
        moved(found) == old
    }

    /// `BPF_ATOMIC | BPF_ADD | BPF_FETCH`.
    #[inline(always)]
    fn add(self, n: u64) -> u64 {
        // SAFETY: `new` guarantees the pointer.
        unsafe { intrinsics::atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(self.0, n) }
    }

    #[inline(always)]
    fn unknown(self, n: u64) -> u64 {
        n.wrapping_add(loops::zero())
    }

    #[inline(always)]
    fn opaque(self, n: u64) -> u64 {
        moved(n)
    }

    #[inline(always)]
    fn pin(self, generation: u64, n: u64) -> Change {
        Change(word_pin(self.0, generation, n) as u64)
    }

    #[inline(always)]
    fn pin_inode(self, generation: u64, n: u64) -> Change {
        Change(word_pin_inode(self.0, generation, n) as u64)
    }

    #[inline(always)]
    fn unpin(self, generation: u64, n: u64) -> Change {
        Change(word_unpin(self.0, generation, n) as u64)
    }

    #[inline(always)]
    fn told(self, generation: u64) -> Change {
        Change(word_told(self.0, generation) as u64)
    }

    #[inline(always)]
    fn lease(self, generation: u64) -> Change {
        Change(word_lease(self.0, generation) as u64)
    }

    #[inline(always)]
    fn lease_end(self, generation: u64) -> Change {
        Change(word_lease_end(self.0, generation) as u64)
    }

    #[inline(always)]
    fn count_up(self, generation: u64, n: u64, most: u64) -> u64 {
        word_count_up(self.0, generation, n, most) as u64 & !BUSY
    }

    #[inline(always)]
    fn count_down(self, generation: u64, n: u64) -> u64 {
        word_count_down(self.0, generation, n) as u64 & !BUSY
    }

    #[inline(always)]
    fn change_owners(self, generation: u64, number: u64, tgid: u64) -> u64 {
        word_change_owners(self.0, generation, number, tgid) as u64 & !BUSY
    }

    #[inline(always)]
    fn close_batch(self, inode_id: u64) -> u64 {
        match word_close_batch(self.0, inode_id) as u64 {
            BUSY => 0,
            closed => closed,
        }
    }
}

/// This number in another register, where the compiler does not know it.
#[inline(always)]
fn moved(n: u64) -> u64 {
    let there: u64;
    // SAFETY: moves a register.
    unsafe { asm!("{} = {}", out(reg) there, in(reg) n, options(pure, nomem, nostack)) };
    there
}

/// How often a change is tried that others were faster with. Each failure is somebody else's success; of sixteen
/// processors at one file one change in 400,000 meets so many (docs/cost.md, "Many processors at one file").
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
                if made as u64 != BUSY || !again(&mut left) {
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
            let $word = InPlace::<1>(word);
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

/// The same word, whose changes are made in place, without a call: calls go eight deep at most.
#[derive(Clone, Copy)]
pub struct InPlace<const TRIES: u64>(*mut u64);

impl<const TRIES: u64> Word for InPlace<TRIES> {
    const TRIES: u64 = TRIES;

    #[inline(always)]
    fn load(self) -> u64 {
        At(self.0).load()
    }

    #[inline(always)]
    fn swap_if(self, old: u64, new: u64) -> bool {
        At(self.0).swap_if(old, new)
    }

    #[inline(always)]
    fn unknown(self, n: u64) -> u64 {
        n.wrapping_add(loops::zero())
    }

    #[inline(always)]
    fn opaque(self, n: u64) -> u64 {
        moved(n)
    }

    #[inline(always)]
    fn add(self, n: u64) -> u64 {
        At(self.0).add(n)
    }
}
