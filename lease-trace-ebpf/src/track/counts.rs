//! What is counted of a change, whoever made it.

use lease_trace_common::{count::Count, word::Change};

use crate::state::maps::count;

/// Counts stakes that come to have both a lease and pins, and those that cease to: while there are
/// none, nobody need look for orphaned pins.
#[inline(always)]
pub fn cover(change: Change) {
    if change.is(Change::COVERED | Change::UNCOVERED) {
        count_cover(change.0);
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_cover(change: u64) -> i64 {
    if Change(change).is(Change::COVERED) {
        count(Count::Covered, 1);
    } else {
        count(Count::Uncovered, 1);
    }
    0
}
