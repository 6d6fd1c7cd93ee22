//! Who keeps pins: found by the files that stand for them, in every task's descriptors and mappings, and
//! looked into page by page when userspace asks for one.
//!
//! Nothing is locked: what is read may change meanwhile. Whoever reads looks twice.

mod arrays;
pub mod cached;
mod containers;
pub mod files;
mod regions;
mod rings;
mod told;
mod walk;
