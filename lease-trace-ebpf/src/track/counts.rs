//! What is counted of a change, whoever made it.

use lease_trace_common::{count::Count, word::Change};

use crate::state::maps::count;

/// Counts stakes that come to have both a lease and pins, and those that cease to: while there are
/// none, nobody need look for orphaned pins.
#[inline(always)]
pub fn cover(change: Change) {
    if change.is(Change::COVERED) {
        count(Count::Covered, 1);
    } else if change.is(Change::UNCOVERED) {
        count(Count::Uncovered, 1);
    }
}
