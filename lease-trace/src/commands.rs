//! The subcommands: flags in, an exit status out.

pub mod check;
pub mod consumers;
pub mod cross_check;
pub mod doctor;
pub mod enforce;
pub mod generate;
mod metrics;
pub mod monitor;
pub mod pins;
pub mod plan;
pub mod plot;
pub mod policy_check;
pub mod policy_test;
pub mod record;
pub mod report;
pub mod run;
pub mod signals;
pub mod top;
pub mod why;

use crate::sinks::terminal::say;
