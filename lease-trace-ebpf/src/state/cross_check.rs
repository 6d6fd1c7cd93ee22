//! Every FOLL_PIN reference that the hooks see, whatever it is on: with `--cross-check` their number is
//! held against the kernel's own. Without it nothing of this is left of the programs.

use lease_trace_common::count::Count;

use crate::{
    bpf::config,
    state::{calls, maps::count},
};

#[inline(always)]
pub fn taken(n: u64) {
    if config::is_cross_checked() {
        count(Count::AllTaken, n);
    }
}

/// What the kernel drops inside a pin call of its own was never seen to be taken.
#[inline(always)]
pub fn dropped(n: u64) {
    if config::is_cross_checked() && !calls::under_way() {
        count(Count::AllDropped, n);
    }
}
