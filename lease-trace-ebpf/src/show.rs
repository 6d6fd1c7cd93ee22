//! Iterators, and the files in bpffs.

pub mod bpffs;
pub mod consumer;
pub mod idle;
pub mod walk;
