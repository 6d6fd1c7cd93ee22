//! The subcommands: flags in, an exit status out.

pub mod doctor;
pub mod enforce;
pub mod monitor;
pub mod plan;
pub mod policy;
pub mod report;
pub mod signals;
