//! Doubt in what is counted of an inode: what a proof has found less of, and what may be an owner's or a transfer's.

use lease_trace_common::word::Word as _;

use super::InodeRef;
use crate::bpf::{atomic::At, task};

impl InodeRef {
    /// What a proof has found is noted; whether the same was found at every look for so long. Of several who
    /// look, one is told so.
    #[inline(always)]
    pub fn doubt_has_lasted(self, found: u64) -> bool {
        /// Longer than any change of the books is under way.
        const LASTING_MS: u32 = 900;
        let now_ms = (task::now() / 1_000_000) as u32;
        // Never 0.
        let mark = u64::from((found ^ found >> 32) as u32 | 1);
        // SAFETY: `record` is an element of an array.
        let doubt = unsafe { At::new(&raw mut (*self.record.as_ptr()).doubt) };
        let before = doubt.load();
        if before >> 32 == mark {
            let lasting_ms = now_ms.wrapping_sub(before as u32);
            return lasting_ms > LASTING_MS && doubt.swap_if(before, 0);
        }
        doubt.swap_if(before, mark << 32 | u64::from(now_ms));
        false
    }

    /// What its stakes count is doubtful until a proof finds that it is right.
    #[inline(always)]
    pub fn mark_doubtful(self) {
        // SAFETY: `record` is an element of an array. No mark that a proof makes is 1.
        unsafe { At::new(&raw mut (*self.record.as_ptr()).doubt) }.swap_if(0, 1);
    }

    /// So many pins were taken for a transfer's that may have been an owner's. They count for two seconds from the
    /// first: a transfer is mostly over then, and what it leaves is its owner's.
    #[inline(always)]
    pub fn note_ambiguous(self, n: u64) {
        let there = self.ambiguous_word();
        let before = there.load();
        let now_ms = task::now() / 1_000_000;
        let begun = if is_recent(before, now_ms) {
            before
        } else {
            now_ms << 32
        };
        if !there.swap_if(before, begun + n) {
            there.add(n);
        }
    }

    /// How many these are now.
    #[inline(always)]
    pub fn ambiguous(self) -> u64 {
        let there = self.ambiguous_word().load();
        if there == 0 || !is_recent(there, task::now() / 1_000_000) {
            return 0;
        }
        there & u64::from(u32::MAX)
    }

    #[inline(always)]
    fn ambiguous_word(self) -> At {
        // SAFETY: `record` is an element of an array.
        unsafe { At::new(&raw mut (*self.record.as_ptr()).ambiguous) }
    }

    /// There is no doubt, or nothing to say of it.
    #[inline(always)]
    pub fn trust(self) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.record.as_ptr()).doubt).write_volatile(0) };
    }
}

/// Whether what is ambiguous since then still counts.
#[inline(always)]
fn is_recent(ambiguous: u64, now_ms: u64) -> bool {
    const LASTING_MS: u32 = 2_000;
    (now_ms as u32).wrapping_sub((ambiguous >> 32) as u32) < LASTING_MS
}
