//! Every FOLL_PIN reference that passes the hooks, whatever it is on: with `--audit` their number is
//! held against the kernel's own. Without it nothing of this is left of the programs.

use lease_trace_common::count::Count;

use crate::{
    kernel,
    state::calls,
    state::maps::{CONFIG, count},
};

/// Whether an audit was asked for; known when the programs are checked.
#[inline(always)]
pub fn is_on() -> bool {
    kernel::constant(&CONFIG.audit) != 0
}

/// Whether there is none, and `struct page` is as it is known.
#[inline(always)]
pub fn is_plain() -> bool {
    kernel::constant(&CONFIG.plain) != 0
}

#[inline(always)]
pub fn taken(n: u64) {
    if is_on() {
        count(Count::AuditTaken, n);
    }
}

/// What the kernel drops inside a pin call of its own was never seen to be taken.
#[inline(always)]
pub fn dropped(n: u64) {
    if is_on() && !calls::under_way() {
        count(Count::AuditDropped, n);
    }
}
