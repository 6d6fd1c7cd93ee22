//! What happens: leases, pins, releases, the page cache, coverage.

pub mod allowance;
pub mod breaks;
pub mod coverage;
pub mod lease;
pub mod page_cache;
pub mod path;
pub mod pin;
pub mod release;
pub mod ring_teardown;
pub mod short_term;
pub mod tally;
