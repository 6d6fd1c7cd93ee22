//! Pages of one call, taken together as far as neighbours belong together: the heavy part is done once
//! for each run of pages of one file, however many files there are.

use lease_trace_common::count::Count;

use crate::{
    bpf::loops::{self, Turn, repeat},
    kernel::SomePages,
    state::losses::lost,
};

/// Pages looked at in one call: 32 GiB. More turns bpf_loop refuses (kernel/bpf/bpf_iter.c,
/// `BPF_MAX_LOOPS`).
const MAX_PAGES: u64 = 1 << 23;

/// The run under way: how many pages of the same key have come one after the other.
pub struct Run {
    /// What they belong to; 0: to nothing that counts.
    key: u64,
    pages: u64,
}

impl Run {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            key: loops::zero(),
            pages: loops::zero(),
        }
    }

    /// Counts a page. If it belongs to something else than the one before, the run before is over and
    /// returned: key and pages.
    #[inline(always)]
    pub fn add(&mut self, key: u64) -> Option<(u64, u64)> {
        if key == self.key {
            let pages = self.pages + 1;
            loops::keep(&mut self.pages, pages);
            return None;
        }
        let before = self.end();
        loops::keep(&mut self.key, key);
        loops::keep(&mut self.pages, 1);
        before
    }

    /// The run under way, if there is one.
    #[inline(always)]
    pub fn end(&self) -> Option<(u64, u64)> {
        (self.key != 0).then_some((self.key, self.pages))
    }
}

/// Calls `page` for each of `n` pages of this array, as many as are looked at.
#[inline(always)]
pub fn for_each_page<T>(array: u64, n: u64, page: Turn, state: &mut T) {
    let looked_at = if n > MAX_PAGES { MAX_PAGES } else { n };
    if n > looked_at {
        lost(Count::LostPages, n - looked_at, array);
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
