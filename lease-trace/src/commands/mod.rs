//! The subcommands: flags in, an exit status out.

pub mod doctor;
pub mod monitor;
pub mod policy;
pub mod report;
pub mod signals;
