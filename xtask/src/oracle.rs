//! `cargo xtask oracle`: random steps of several processes in a guest, each held against a plain
//! model. The oracle itself is a scenario (lease-trace/tests/guest/oracle); here it gets its size.
//! With `--storm` the hammer in its place (lease-trace/tests/guest/storm.rs).

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::random::{self, AROUND, Asked, Long};

const SCENARIO: &str = "oracle::it_agrees_with_the_product";
/// The hammer's scenarios (lease-trace/tests/guest/storm.rs), by what their names begin with, and how
/// many they are.
const STORM: &str = "storm::";
const STORMS: u32 = 3;
/// The most that one step may take on average.
const STEP: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    asked: Asked,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = 5000)]
    ops: u32,
    /// The guest's processors; with one, more guests fit beside each other [default: 2, with --storm
    /// 4]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Run the hammer instead: all at once and by themselves, compared whenever they are quiet
    #[arg(long, conflicts_with = "ops")]
    storm: bool,
    /// How long each scenario of the hammer lasts
    #[arg(long, value_name = "S", default_value_t = 600, requires = "storm")]
    seconds: u32,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options {
        asked,
        ops,
        cpus,
        storm,
        seconds,
    } = options;
    let seed = asked.seed();
    let of_storm = Long {
        cpus: cpus.unwrap_or(4),
        // Half of the time, or more on a busy host, is for comparing.
        limit: AROUND + Duration::from_secs((*seconds).into()) * STORMS * 3,
        sizes: [
            ("STORM_SECONDS", seconds.to_string()),
            ("STORM_SEED", seed.to_string()),
        ],
        filter: &[STORM],
        what: format!("{STORMS} storms of {seconds} s from seed {seed}"),
    };
    let of_oracle = Long {
        cpus: cpus.unwrap_or(2),
        limit: AROUND + STEP * *ops,
        sizes: [
            ("ORACLE_OPS", ops.to_string()),
            ("ORACLE_SEED", seed.to_string()),
        ],
        filter: &["--exact", SCENARIO],
        what: format!("{ops} steps from seed {seed}"),
    };
    random::run(asked, if *storm { of_storm } else { of_oracle })
}
