//! `cargo xtask adversary`: a user without privileges, whose processes make random calls against rules in force. He
//! is a scenario (lease-trace/tests/guest/adversary); here he gets his size.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{
    guest::kernels,
    random::{self, Long},
};

const SCENARIO: &str = "adversary::finds_nothing";
/// What a guest may take beside the calls.
const AROUND: Duration = Duration::from_mins(10);
/// The most that one call may take on average.
const CALL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Options {
    /// 6.1, 6.12, latest, or the path of a vmlinuz with its modules
    #[arg(long, value_name = "KERNEL", default_value = kernels::DEFAULT)]
    kernel: String,
    /// How many calls
    #[arg(long, value_name = "N", default_value_t = 5000)]
    ops: u32,
    /// Chooses the calls; another one each time if it is left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { kernel, ops, seed } = options;
    let seed = random::seed(*seed);
    random::run(Long {
        kernel,
        cpus: 2,
        limit: AROUND + CALL * *ops,
        sizes: [
            ("ADVERSARY_OPS", ops.to_string()),
            ("ADVERSARY_SEED", seed.to_string()),
        ],
        filter: &["--exact", SCENARIO],
        what: format!("{ops} calls from seed {seed}"),
    })
}
