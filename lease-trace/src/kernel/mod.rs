//! What is asked of the running kernel, and the only place that knows its names: BTF,
//! capabilities, and the probe points with what is lost when one is missing.

pub mod batch;
pub mod bpf;
pub mod btf;
pub mod denials;
pub mod host;
pub mod iter;
pub mod offsets;
pub mod points;
mod trial;
pub mod vmstat;
pub mod wake;
pub mod ways;
