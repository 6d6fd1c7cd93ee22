//! What the target lacks: atomics, loops, clearing and copying of records; what is known when programs
//! are loaded, and who runs them.

pub mod atomic;
pub mod config;
pub mod loops;
pub mod mem;
pub mod task;
