//! What there is, held against what the hooks have counted.

pub mod calls;
pub mod leases;
pub mod proof;
