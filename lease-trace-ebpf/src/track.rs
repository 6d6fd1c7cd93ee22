//! What happens: leases, pins, releases, the page cache, coverage.

pub mod books;
pub mod breaks;
pub mod counts;
pub mod coverage;
pub mod ends;
pub mod inherited;
pub mod lease;
pub mod over;
pub mod own_leases;
pub mod page_cache;
pub mod path;
pub mod pin;
pub mod react;
pub mod release;
pub mod ring_teardown;
pub mod runs;
pub mod short_term;
