//! The subcommands: flags in, an exit status out.

pub mod audit;
pub mod doctor;
pub mod enforce;
pub mod generate;
mod metrics;
pub mod monitor;
pub mod plan;
pub mod plot;
pub mod policy;
pub mod record;
pub mod report;
pub mod signals;
pub mod top;

use std::io::{self, Write as _};

use crate::sinks::text;

/// Says something on stderr that is no data. Nobody is left to tell if stderr is closed.
fn say(sentence: &str) {
    let line = text::wrap(&format!("lease-trace: {sentence}"), text::TALK_WIDTH, 2);
    let _ = writeln!(io::stderr(), "{line}");
}
