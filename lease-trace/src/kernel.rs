//! What is asked of the running kernel, and the only place that knows its names: BTF,
//! capabilities, and the probe points with what is lost when one is missing.

pub mod batch;
pub mod bpf;
pub mod btf;
pub mod clones;
pub mod denials;
pub mod globals;
pub mod host;
pub mod iter;
pub mod kallsyms;
pub mod limits;
pub mod link;
pub mod memory;
pub mod offsets;
pub mod owners;
pub mod points;
pub mod preemption;
pub mod release_paths;
mod trial;
pub mod undisturbed;
pub mod uring;
pub mod vmstat;
pub mod wake;
