//! Counts beside an inode's word. Each has the record's generation in its upper bits, so that none is
//! taken for that of the slot's next record.
//!
//! ```text
//!  63        48  47                 0
//! +------------+---------------------+
//! | generation |        value        |
//! +------------+---------------------+
//! ```

use crate::word::{BUSY, Word, again};

const TAG_SHIFT: u32 = 48;
pub const VALUE: u64 = (1 << TAG_SHIFT) - 1;

/// The count of a new record: 0.
#[inline(always)]
pub const fn fresh(generation: u64) -> u64 {
    generation << TAG_SHIFT
}

/// What it says, if it is that record's.
#[inline(always)]
pub const fn value(count: u64, generation: u64) -> Option<u64> {
    if count & !VALUE == fresh(generation) {
        Some(count & VALUE)
    } else {
        None
    }
}

/// What it says now; 0 if it is another record's.
#[inline(always)]
pub fn get<W: Word>(count: W, generation: u64) -> u64 {
    value(count.load(), generation).unwrap_or(0)
}

/// Adds up to `n`, as far as it does not go beyond `most`; returns how many.
#[inline(always)]
pub fn add<W: Word>(count: W, generation: u64, n: u64, most: u64) -> u64 {
    let mut left = W::TRIES;
    loop {
        let old = count.load();
        let Some(there) = value(old, generation) else {
            return 0;
        };
        if there >= most {
            return 0;
        }
        let added = if n < most - there { n } else { most - there };
        if count.swap_if(old, old + added) {
            return added;
        }
        if !again(&mut left) {
            return BUSY;
        }
    }
}

/// Takes out up to `n`; returns how many.
#[inline(always)]
pub fn take<W: Word>(count: W, generation: u64, n: u64) -> u64 {
    let mut left = W::TRIES;
    loop {
        let old = count.load();
        let taken = match value(old, generation) {
            None | Some(0) => return 0,
            Some(there) if n < there => n,
            Some(there) => there,
        };
        if count.swap_if(old, old - taken) {
            return taken;
        }
        if !again(&mut left) {
            return BUSY;
        }
    }
}

/// The most that a count holds.
pub const MOST: u64 = VALUE;

/// Owners of pins: their number in the upper half of a tagged value, the sum of their thread group
/// ids below, so that the only owner is named without a walk. The sum wraps around within its half, which
/// is wider than a thread group id (include/linux/threads.h, `PID_MAX_LIMIT`).
pub mod owners {
    use super::{BUSY, VALUE, Word, again, value};

    const NUMBER_SHIFT: u32 = 24;
    const SUM: u64 = (1 << NUMBER_SHIFT) - 1;

    /// How many owners there are.
    #[inline(always)]
    pub const fn number(value: u64) -> u64 {
        value >> NUMBER_SHIFT
    }

    /// The thread group id of the only owner; `None` when there are several or none.
    #[inline(always)]
    pub const fn sole(value: u64) -> Option<u32> {
        if number(value) == 1 {
            Some((value & SUM) as u32)
        } else {
            None
        }
    }

    /// The process has come to own pins.
    #[inline(always)]
    pub fn add<W: Word>(owners: W, generation: u64, tgid: u32) {
        owners.change_owners(generation, 1 << NUMBER_SHIFT, tgid as u64);
    }

    /// Its last pin has gone.
    #[inline(always)]
    pub fn sub<W: Word>(owners: W, generation: u64, tgid: u32) {
        // Minus one, in the upper half alone.
        let minus_one = VALUE & !SUM;
        owners.change_owners(generation, minus_one, SUM + 1 - (tgid as u64 & SUM));
    }

    /// Adds to the number and to the sum; 1 if it could.
    #[inline(always)]
    pub fn change<W: Word>(owners: W, generation: u64, number: u64, tgid: u64) -> u64 {
        let mut left = W::TRIES;
        loop {
            let old = owners.load();
            let Some(there) = value(old, generation) else {
                return 0;
            };
            let upper = (there & !SUM).wrapping_add(number) & VALUE & !SUM;
            let lower = (there & SUM).wrapping_add(tgid) & SUM;
            if owners.swap_if(old, old & !VALUE | upper | lower) {
                return 1;
            }
            if !again(&mut left) {
                return BUSY;
            }
        }
    }
}
