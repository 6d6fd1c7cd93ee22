//! What there is, held against what the hooks have counted.

pub mod leases;
pub mod proof;
