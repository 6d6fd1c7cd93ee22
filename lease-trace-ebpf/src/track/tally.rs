//! Pages of one call summed up by what they belong to, so that the heavy part runs once for each
//! inode and not once for each page, and so that the verifier sees it once.

use lease_trace_common::count::Count;

use crate::{
    bpf::loops::{Turn, repeat, zero},
    kernel::SomePages,
    state::maps::count,
};

/// Different inodes told apart in one call; pages of further ones are counted as unread.
const ENTRIES: usize = 4;
/// Pages looked at in one call.
const MAX_PAGES: u64 = 1 << 23;

/// Page counts by key; 0 is no key.
pub struct Tally {
    /// The run under way: neighbours mostly belong together.
    key: u64,
    run: u64,
    entries: [(u64, u64); ENTRIES],
}

impl Tally {
    #[inline(always)]
    pub fn new() -> Self {
        let zero = zero();
        Self {
            key: zero,
            run: zero,
            entries: [(zero, zero); ENTRIES],
        }
    }

    /// Counts `n` pages under `key`.
    #[inline(always)]
    pub fn add(&mut self, key: u64, n: u64) {
        if key == 0 {
            return;
        }
        if key != self.key {
            self.close_run();
            self.key = key;
        }
        self.run += n;
    }

    /// Puts the run under way with the others. Called also before a loop over pages: what a call
    /// has passed is any number to the verifier, which then finds every turn of the loop alike.
    #[inline(always)]
    pub fn close_run(&mut self) {
        tally_close_run(self);
    }

    /// The `index`th key and its pages.
    #[inline(always)]
    pub fn entry(&self, index: u64) -> Option<(u64, u64)> {
        self.entries
            .get(index as usize)
            .copied()
            .filter(|entry| entry.0 != 0)
    }
}

/// A function of its own for the verifier: checked once, not at every change of key.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tally_close_run(tally: *mut Tally) -> i64 {
    // SAFETY: `close_run` passes a tally, or the verifier a null pointer.
    let Some(tally) = (unsafe { tally.as_mut() }) else {
        return 0;
    };
    let (key, run) = (tally.key, tally.run);
    tally.run = zero();
    if key == 0 {
        return 0;
    }
    for entry in &mut tally.entries {
        if entry.0 == 0 || entry.0 == key {
            *entry = (key, entry.1 + run);
            return 0;
        }
    }
    count(Count::LostPages, run);
    0
}

/// Calls `page` for each of `n` pages, as many as are looked at.
#[inline(always)]
pub fn for_each_page<T>(n: u64, page: Turn, state: &mut T) {
    let looked_at = if n > MAX_PAGES { MAX_PAGES } else { n };
    if n > looked_at {
        count(Count::LostPages, n - looked_at);
    }
    repeat(looked_at as u32, page, state);
}

/// Calls `pages` for all of `n` pages, some at a time; false if there are more than are looked at.
#[inline(always)]
pub fn for_each_some<T>(n: u64, pages: Turn, state: &mut T) -> bool {
    if n > MAX_PAGES {
        return false;
    }
    repeat(n.div_ceil(SomePages::LEN as u64) as u32, pages, state);
    true
}

/// Calls `each` for every entry of a tally.
#[inline(always)]
pub fn for_each_entry<T>(each: Turn, state: &mut T) {
    repeat(ENTRIES as u32, each, state);
}
