//! What the target lacks: atomics, loops, clearing and copying of records.

pub mod atomic;
pub mod loops;
pub mod mem;
