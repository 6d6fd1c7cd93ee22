//! `cargo xtask adversary`: a user without privileges, whose processes make random calls against rules in force. He
//! is a scenario (lease-trace/tests/guest/adversary); here he gets his size.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::random::{self, AROUND, Asked, Long};

const SCENARIO: &str = "adversary::finds_nothing";
/// The most that one call may take on average.
const CALL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    asked: Asked,
    /// How many calls
    #[arg(long, value_name = "N", default_value_t = 5000)]
    ops: u32,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { asked, ops } = options;
    let seed = asked.seed();
    let long = Long {
        cpus: 2,
        limit: AROUND + CALL * *ops,
        sizes: [
            ("ADVERSARY_OPS", ops.to_string()),
            ("ADVERSARY_SEED", seed.to_string()),
        ],
        filter: &["--exact", SCENARIO],
        what: format!("{ops} calls from seed {seed}"),
    };
    random::run(asked, long)
}
